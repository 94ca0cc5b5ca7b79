//! `niks3-server forget`: some paths go now, and all that was recorded of them, so that the next push of them
//! sends and composes them anew. By the collection's own means: expired, condemned, claimed, deleted.

use std::{collections::BTreeSet, time::Duration};

use niks3_core::store_path::StorePathHash;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::{CollectError, clock::Clock, sweep, turn::Decision, turn::Turns};
use crate::{
    store::{self, CollectionLock, Forgettable, TOP, Tx},
    upload::{self, Uploads},
};

/// Paths that one call makes garbage of, those that refer to them included.
const MAX_PATHS: usize = 10_000;

/// Paths that an error names.
const NAMED: usize = 10;

/// Between two looks at what somebody may still be able to write.
const PAUSE: Duration = Duration::from_secs(1);

/// Why nothing, or not everything, was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// A collection or a repair is under way.
    #[error("garbage collection or a repair is under way; wait for it to end")]
    Busy,
    /// The cache does not know any of them.
    #[error("the cache has none of these paths")]
    Unknown,
    /// Something would miss them.
    #[error(
        "{count} paths in the cache refer to them, such as {}; they would go too, with --with-referrers",
        .named.join(", ")
    )]
    Referred {
        /// How many.
        count: usize,
        /// Some of them.
        named: Vec<String>,
    },
    /// Too much at once.
    #[error("{0} paths would go, the limit is {MAX_PATHS}")]
    TooMany(usize),
    /// Pinned.
    #[error("pins keep them: {}; delete or move these first", .0.join(", "))]
    Pinned(Vec<String>),
    /// Somebody pushes them.
    #[error("a push that is under way needs {0}; try again when it has ended")]
    Held(String),
    /// S3 did not delete all of it in time, or a push has brought some of it back.
    #[error("{left} of {of} objects are still there; try again")]
    Left {
        /// How many.
        left: i64,
        /// Of how many.
        of: usize,
    },
    /// The collection's own errors.
    #[error(transparent)]
    Collect(#[from] CollectError),
}

impl From<store::StoreError> for ForgetError {
    fn from(error: store::StoreError) -> Self {
        CollectError::from(error).into()
    }
}

/// Forgets these paths; answers how many went, those that referred to them included.
///
/// # Errors
/// When something needs them, or database or bucket fail.
pub async fn forget(
    cx: &Uploads,
    paths: &[StorePathHash],
    with_referrers: bool,
) -> Result<usize, ForgetError> {
    let lock = CollectionLock::try_take(&cx.store).await?.ok_or(ForgetError::Busy)?;
    upload::lapse_claims(cx).await.map_err(CollectError::from)?;
    let mut turns = Turns::new(&cx.store);
    let ids = turns.take(&Condemning { paths, with_referrers }).await??;
    info!(paths = ids.len(), "condemned what shall be forgotten");
    // Whatever could be writing them ends by then.
    let times = cx.bucket.times;
    let patience = times.writable(times.url_lifetime.min(times.own_url()), 0) * 2;
    let until = Instant::now() + patience;
    let mut rest: BTreeSet<i64> = ids.iter().copied().collect();
    loop {
        lock.check().await.map_err(CollectError::LockLost)?;
        // Their NARs and listings too: a push would take what is there.
        while turns.take(&super::condemn::Candidates { below: TOP }).await?.is_some() {}
        rest.extend(store::realisations_of(&cx.store.connection().await?, &ids).await?);
        let clock = Clock::measure(cx).await?;
        let todo: Vec<i64> = rest.iter().copied().collect();
        let swept = sweep::delete_now(cx, &mut turns, &clock, &todo).await?;
        rest.extend(swept.forgotten.freed);
        let (left, needed) = store::still_there(&cx.store.connection().await?, &ids).await?;
        if left == 0 && swept.forgotten.objects == 0 {
            return Ok(ids.len());
        }
        if swept.forgotten.objects == 0 {
            if left == needed || Instant::now() >= until {
                return Err(ForgetError::Left { left, of: ids.len() });
            }
            sleep(PAUSE).await;
        }
    }
}

struct Condemning<'a> {
    paths: &'a [StorePathHash],
    with_referrers: bool,
}

impl Decision for Condemning<'_> {
    type Answer = Result<Vec<i64>, ForgetError>;

    async fn decide(&self, tx: &Tx<'_>, _: usize) -> Result<Self::Answer, CollectError> {
        let found = store::forgettable(tx, self.paths).await?;
        if let Some(refusal) = refusal(&found, self.with_referrers) {
            return Ok(Err(refusal));
        }
        let ids: Vec<i64> = found.iter().map(|path| path.id).collect();
        store::forget_narinfos(tx, &ids).await?;
        Ok(Ok(ids))
    }
}

fn refusal(found: &[Forgettable], with_referrers: bool) -> Option<ForgetError> {
    let named =
        |paths: Vec<&Forgettable>| paths.iter().take(NAMED).map(|p| p.name.clone()).collect();
    let referrers: Vec<_> = found.iter().filter(|path| !path.asked).collect();
    let pins: Vec<String> = found.iter().filter_map(|path| path.pin.clone()).collect();
    match found {
        [] => Some(ForgetError::Unknown),
        _ if !referrers.is_empty() && !with_referrers => {
            Some(ForgetError::Referred { count: referrers.len(), named: named(referrers) })
        }
        _ if found.len() > MAX_PATHS => Some(ForgetError::TooMany(found.len())),
        _ if !pins.is_empty() => Some(ForgetError::Pinned(pins)),
        _ => found.iter().find(|path| path.held).map(|path| ForgetError::Held(path.name.clone())),
    }
}
