//! What a crash or a failing bucket has left: files that do not say what their pins do.

use futures_util::{StreamExt as _, stream};
use niks3_core::pin_name::PinName;
use tracing::warn;

use super::{PinError, file::Placed, file::place, retry, take_as_it_is};
use crate::{
    store::{self, StoreError, TakenPin},
    upload::Uploads,
};

/// Pins that are looked up in one go.
const CHUNK: usize = 100;

/// Files that are changed at once.
const AT_ONCE: usize = 4;

/// Completes pins whose files are not as they shall be and that nobody is changing. Answers how many
/// files are as they shall be now; what fails is left for the next time.
///
/// # Errors
/// When the database fails.
pub async fn complete(cx: &Uploads) -> Result<usize, PinError> {
    let (mut completed, mut after) = (0, None);
    loop {
        let due = due(cx, after.as_ref()).await?;
        let Some(last) = due.last() else { return Ok(completed) };
        after = Some(last.clone());
        let placed: Vec<Result<bool, PinError>> = stream::iter(due)
            .map(|name| async move { complete_one(cx, &name).await })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for placed in placed {
            completed += usize::from(placed?);
        }
    }
}

async fn due(cx: &Uploads, after: Option<&PinName>) -> Result<Vec<PinName>, StoreError> {
    store::due_pins(&cx.store.connection().await?, after, CHUNK).await
}

async fn complete_one(cx: &Uploads, name: &PinName) -> Result<bool, PinError> {
    let Some(taken) = retry(|| take_due(cx, name)).await? else { return Ok(false) };
    match place(cx, &taken).await? {
        Placed::There => Ok(true),
        Placed::Overtaken => Ok(false),
        Placed::Not(error) => {
            let error = &error as &dyn std::error::Error;
            warn!(error, pin.name = %name, "the file pins/{name} does not follow yet");
            Ok(false)
        }
    }
}

/// `None`: somebody else has completed it, or is about to.
async fn take_due(cx: &Uploads, name: &PinName) -> Result<Option<TakenPin>, PinError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let pin = store::lock_pin(&tx, name).await?.filter(|pin| pin.is_due());
    let Some(pin) = pin else { return Ok(None) };
    tx.enter_gate().await?;
    let taken = take_as_it_is(cx, &tx, name, &pin).await?;
    tx.commit().await?;
    Ok(Some(taken))
}
