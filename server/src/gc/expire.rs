//! What lets go: pushes that have failed, closures that are old.

use std::time::Duration;

use super::{
    CollectError,
    run::Run,
    turn::{Decision, Turns},
};
use crate::{
    store::{self, Tx},
    upload,
};

/// Uploads that one transaction fails or forgets.
const UPLOADS_AT_ONCE: usize = 500;

/// How long an ended upload is remembered: whoever asks for it is told how it ended.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// Fails uploads that gave no sign of life, and lets go of all that ended uploads hold, be they failed
/// or committed: a crash may have left that.
pub(super) async fn failed_uploads(run: &mut Run<'_>) -> Result<(), CollectError> {
    let cx = run.cx;
    loop {
        run.keep().await?;
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        let silent = run.silent();
        let failed = store::fail_silent_uploads(&tx, silent, UPLOADS_AT_ONCE).await?;
        tx.commit().await?;
        run.progress.failed_uploads_deleted += failed as u64;
        if failed < UPLOADS_AT_ONCE {
            break;
        }
    }
    let mut after = 0;
    loop {
        let connection = cx.store.connection().await?;
        let ended = store::ended_uploads(&connection, after, UPLOADS_AT_ONCE).await?;
        drop(connection);
        let Some(last) = ended.last() else { break };
        after = *last;
        for upload in ended {
            run.keep().await?;
            upload::release_all(cx, upload).await?;
        }
    }
    // What S3 has of their large NARs: rows of those are not claimed before.
    upload::abort_ended(cx).await?;
    loop {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        let forgotten = store::forget_uploads(&tx, REMEMBERED, UPLOADS_AT_ONCE).await?;
        tx.commit().await?;
        if forgotten < UPLOADS_AT_ONCE {
            return Ok(());
        }
    }
}

/// Closures that nobody has pushed for long are closures no more, unless they are pinned.
pub(super) async fn old_closures(run: &mut Run<'_>) -> Result<(), CollectError> {
    let mut turns = Turns::new(&run.cx.store);
    let old = Old { pushed_before: run.pushed_before() };
    loop {
        run.keep().await?;
        let asked = turns.batch();
        let expired = turns.take(&old).await?;
        run.progress.old_closures_deleted += expired as u64;
        if expired < asked {
            return Ok(());
        }
    }
}

struct Old {
    pushed_before: f64,
}

impl Decision for Old {
    type Answer = usize;

    async fn decide(&self, tx: &Tx<'_>, limit: usize) -> Result<usize, CollectError> {
        Ok(store::expire_closures(tx, self.pushed_before, limit).await?)
    }
}
