//! Pins: names for closures, which then do not expire, and whose files in the bucket follow.

mod file;
mod keep;

use std::time::{Duration, Instant};

use niks3_core::{
    pin_name::PinName,
    store_path::{StorePath, StorePathHash},
    wire::{Pin, PinsResponse},
};
use tracing::info;

use self::file::{Placed, place};
use crate::{
    s3::S3Error,
    store::{self, LockedPin, StoreError, TakenPin, Target, Tx},
    upload::Uploads,
};

pub use keep::complete;

/// Pins that one call lists.
const PAGE: usize = 1000;

/// How long a call waits for others that are changing the same file. One that died may have sent a
/// request that still arrives, and keeps the pin for two minutes and more: too long for a call.
const WAIT: Duration = Duration::from_secs(10);

/// Between two looks whether they are done.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Why a call was not carried out, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No closure.
    #[error("{0} is not a closure that was pushed to this cache; push it, then pin it")]
    NotPushed(StorePath),
    /// Another path of that hash.
    #[error("{asked} is not in this cache, which has {has} under that hash")]
    OtherPath {
        /// What was to be pinned.
        asked: StorePath,
        /// What there is.
        has: StorePath,
    },
    /// It is a closure, and its narinfo is not in the bucket.
    #[error("the cache has lost {0}; push it again, then pin it")]
    Lost(StorePath),
    /// No such pin.
    #[error("there is no pin {0}")]
    Unknown(PinName),
    /// Others are at it.
    #[error(
        "somebody else is changing the file pins/{0} in the bucket, or has died while changing it; \
         try again in a moment"
    )]
    Busy(PinName),
    /// The pin is made or moved, its file is not there yet.
    #[error("the pin {name} keeps its closure; its file pins/{name} in the bucket follows")]
    FileFollows {
        /// Its name.
        name: PinName,
        /// Why not at once.
        #[source]
        source: S3Error,
    },
    /// The pin is deleted, its file is still there.
    #[error("the pin {name} is deleted; its file pins/{name} in the bucket goes later")]
    FileStays {
        /// Its name.
        name: PinName,
        /// Why not at once.
        #[source]
        source: S3Error,
    },
    /// An earlier change has not reached the bucket.
    #[error(
        "the file pins/{name} in the bucket has not followed an earlier change of this pin yet"
    )]
    Unsettled {
        /// Its name.
        name: PinName,
        /// Why not.
        #[source]
        source: S3Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What one transaction has found or done.
enum Step {
    /// The pin is what it shall be: its file is the caller's to change.
    Taken(TakenPin),
    /// The pin is what it was: its file may name two closures, and has to name one before a third
    /// comes in. It is the caller's to change.
    First(TakenPin),
    /// Somebody else is changing the file.
    Wait,
    /// There is no such pin.
    None,
}

/// Creates a pin, or moves it. Answers when its file in the bucket says so.
///
/// # Errors
/// See [`PinError`]. The pin is in effect also with [`PinError::FileFollows`].
pub async fn set(cx: &Uploads, name: &PinName, path: &StorePath) -> Result<Pin, PinError> {
    let moved_at = change(cx, name, Change::Set(path)).await?.unwrap_or_default();
    info!(pin.name = %name, pin.path = %path, "pinned {path} as {name}");
    Ok(Pin { name: name.clone(), path: path.clone(), moved_at })
}

/// Deletes a pin. Answers when its file in the bucket is gone; until then its closure is kept.
///
/// # Errors
/// See [`PinError`].
pub async fn delete(cx: &Uploads, name: &PinName) -> Result<(), PinError> {
    change(cx, name, Change::Delete).await?;
    info!(pin.name = %name, "deleted the pin {name}");
    Ok(())
}

/// Pins by name, those after `after`.
///
/// # Errors
/// When the database fails.
pub async fn list(cx: &Uploads, after: Option<&PinName>) -> Result<PinsResponse, StoreError> {
    let rows = store::list_pins(&cx.store.connection().await?, after, PAGE + 1).await?;
    let more = rows.len() > PAGE;
    let pins: Vec<Pin> = rows
        .into_iter()
        .take(PAGE)
        .map(|(name, path, moved_at)| Pin { name, path, moved_at })
        .collect();
    let next = pins.last().filter(|_| more).map(|pin| pin.name.clone());
    Ok(PinsResponse { pins, next })
}

#[derive(Clone, Copy)]
enum Change<'a> {
    Set(&'a StorePath),
    Delete,
}

/// Answers when the pin was moved to where it is. `None`: somebody else has deleted it, as was to be.
async fn change(cx: &Uploads, name: &PinName, change: Change<'_>) -> Result<Option<u64>, PinError> {
    let until = Instant::now() + WAIT;
    let mut waited = false;
    loop {
        match retry(|| step(cx, name, change)).await? {
            Step::Taken(taken) => match place(cx, &taken).await? {
                Placed::There => return Ok(Some(taken.moved_at)),
                Placed::Not(source) => {
                    let name = name.clone();
                    return Err(match change {
                        Change::Set(_) => PinError::FileFollows { name, source },
                        Change::Delete => PinError::FileStays { name, source },
                    });
                }
                Placed::Overtaken => {}
            },
            Step::First(taken) => {
                if let Placed::Not(source) = place(cx, &taken).await? {
                    return Err(PinError::Unsettled { name: name.clone(), source });
                }
            }
            Step::Wait => waited = true,
            // Whom we waited for has deleted it: a call that is repeated meets itself.
            Step::None if waited => return Ok(None),
            Step::None => return Err(PinError::Unknown(name.clone())),
        }
        if Instant::now() >= until {
            return Err(PinError::Busy(name.clone()));
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn step(cx: &Uploads, name: &PinName, change: Change<'_>) -> Result<Step, PinError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    if let Change::Set(_) = change {
        store::insert_pin(&tx, name).await?;
    }
    let Some(pin) = store::lock_pin(&tx, name).await? else {
        return Ok(match change {
            // Deleted since it was met by the insertion.
            Change::Set(_) => Step::Wait,
            Change::Delete => Step::None,
        });
    };
    tx.enter_gate().await?;
    let target = match change {
        Change::Set(path) => Some(pushed(&tx, path).await?),
        Change::Delete if pin.is_gone() => return Ok(Step::None),
        Change::Delete => None,
    };
    if pin.writing {
        return Ok(Step::Wait);
    }
    let step = match pin.besides(target.as_ref()) {
        Ok(filed) => Step::Taken(take(cx, &tx, name, &pin, target, filed).await?),
        Err(store::Unsure) => Step::First(take_as_it_is(cx, &tx, name, &pin).await?),
    };
    tx.commit().await?;
    Ok(step)
}

/// The closure with this root. Inside the gate it stays one.
async fn pushed(tx: &Tx<'_>, path: &StorePath) -> Result<Target, PinError> {
    let hash: StorePathHash = path.hash();
    let found = store::pinnable(tx, hash).await?.filter(|found| found.pushed);
    let found = found.ok_or_else(|| PinError::NotPushed(path.clone()))?;
    match found.path {
        Some(has) if has != *path => Err(PinError::OtherPath { asked: path.clone(), has }),
        Some(path) if found.stored => Ok(Target { id: found.id, path }),
        _ => Err(PinError::Lost(path.clone())),
    }
}

/// To be committed before the file is touched.
async fn take(
    cx: &Uploads,
    tx: &Tx<'_>,
    name: &PinName,
    before: &LockedPin,
    target: Option<Target>,
    filed: Option<i64>,
) -> Result<TakenPin, StoreError> {
    let times = cx.bucket.times;
    let time = times.writable(times.own_url(), 0);
    store::take_pin(tx, name.clone(), before, target, filed, time).await
}

/// A pin whose file may name either of two closures keeps both, and will name the one that it is for.
async fn take_as_it_is(
    cx: &Uploads,
    tx: &Tx<'_>,
    name: &PinName,
    pin: &LockedPin,
) -> Result<TakenPin, StoreError> {
    let target = pin.target.clone();
    let filed = pin.besides(target.as_ref()).unwrap_or_default();
    take(cx, tx, name, pin, target, filed).await
}

/// Runs a transaction again while it meets what passes.
async fn retry<T, Fut>(transaction: impl FnMut() -> Fut) -> Result<T, PinError>
where
    Fut: Future<Output = Result<T, PinError>>,
{
    let is_transient = |error: &PinError| matches!(error, PinError::Store(e) if e.is_transient());
    store::retry(transaction, is_transient).await
}
