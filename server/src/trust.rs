//! Do database and bucket belong together, as they are now?
//!
//! A database that was restored from a backup is older than the bucket: it would collect what it does not
//! know, and take for stored what is gone. So each collection leaves a name in both, and the database
//! remembers which PostgreSQL it was written by. When either does not fit, nothing is collected, and a
//! push believes nothing that it has not seen, until `niks3-server fsck --s3 --repair`.

use std::time::{SystemTime, UNIX_EPOCH};

use niks3_core::object_key::{ObjectKey, RandomPart};
use tokio::sync::Mutex;
use tracing::{error, warn};

use crate::{
    s3::{Bucket, S3Error},
    store::{self, Generation, Identity, StoreError},
    upload::{Uploads, random_part},
};

/// What was last found to fit.
pub type Trust = Mutex<Option<Identity>>;

/// Why database and bucket are not believed to belong together, or why nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// Another PostgreSQL.
    #[error(
        "the database was moved or restored: another PostgreSQL, or another timeline of it, has it now \
         than when niks3 last collected; {REPAIR}"
    )]
    Moved,
    /// The bucket knows more.
    #[error(
        "the bucket has {0}, which the database does not know: the database is older than the bucket, \
         or another one collects in it; {REPAIR}"
    )]
    DatabaseOlder(ObjectKey),
    /// The bucket knows less.
    #[error(
        "the database knows {0}, which is not in the bucket: the bucket is older than the database, or \
         another one; {REPAIR}"
    )]
    BucketOlder(ObjectKey),
    /// The database knew nothing when it first met a bucket with narinfos.
    #[error(
        "the database was empty when niks3 first started with it, and the bucket was not; {REPAIR}"
    )]
    New,
    /// The database cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket cannot be asked.
    #[error(transparent)]
    S3(#[from] S3Error),
}

const REPAIR: &str = "run `niks3-server fsck --s3 --repair`";

impl Distrust {
    /// Whether it was found that they do not fit. Else nobody knows at this moment.
    #[must_use]
    pub fn is_found(&self) -> bool {
        matches!(self, Self::Moved | Self::DatabaseOlder(_) | Self::BucketOlder(_) | Self::New)
    }
}

/// Whether database and bucket fit. Mostly one small query: the bucket is asked when the database says
/// something else than when it was last asked.
///
/// # Errors
/// When they do not, or cannot be asked.
pub async fn check(cx: &Uploads) -> Result<(), Distrust> {
    let mut known = cx.trust.lock().await;
    let identity = store::identity(&cx.store.connection().await?).await?;
    if known.as_ref() == Some(&identity) {
        return Ok(());
    }
    *known = None;
    *known = Some(compare(cx, identity).await.inspect_err(|distrust| {
        if distrust.is_found() {
            error!("nothing is collected, and pushes look before they believe: {distrust}");
        }
    })?);
    Ok(())
}

async fn compare(cx: &Uploads, identity: Identity) -> Result<Identity, Distrust> {
    let found = generations(&cx.bucket).await?;
    let Some((cluster, generation)) = &identity.recorded else {
        explain(&found, &Generation::default())?;
        let new = identity.empty && has_narinfos(&cx.bucket).await?;
        let connection = cx.store.connection().await?;
        store::first_identity(&connection, new.then(random_part)).await?;
        return if new { Err(Distrust::New) } else { Ok(store::identity(&connection).await?) };
    };
    if *cluster != identity.cluster {
        return Err(Distrust::Moved);
    }
    if generation.is_new() {
        return Err(Distrust::New);
    }
    explain(&found, generation)?;
    Ok(identity)
}

/// What the bucket has must be what the database knows: the current generation, or the next one on its
/// way, and maybe older ones that were not deleted yet.
fn explain(found: &[(u64, RandomPart)], known: &Generation) -> Result<(), Distrust> {
    let next = known.next.map(|name| (known.number + 1, name));
    for &(number, name) in found {
        let fits = number < known.number
            || (number == known.number && Some(name) == known.name)
            || Some((number, name)) == next;
        if !fits {
            return Err(Distrust::DatabaseOlder(ObjectKey::Generation(number, name)));
        }
    }
    match known.name {
        Some(name) if !found.contains(&(known.number, name)) => {
            Err(Distrust::BucketOlder(ObjectKey::Generation(known.number, name)))
        }
        _ => Ok(()),
    }
}

/// A new database that knows nothing may stand before an old bucket in which nothing was collected yet.
async fn has_narinfos(bucket: &Bucket) -> Result<bool, S3Error> {
    // Keys of narinfos begin with any character of their hashes: the first page has some, if there are many.
    let page = bucket.list("", "").await?;
    Ok(page.iter().any(|listed| matches!(listed.key.parse(), Ok(ObjectKey::NarInfo(_)))))
}

async fn generations(bucket: &Bucket) -> Result<Vec<(u64, RandomPart)>, S3Error> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = bucket.list("generation/", &after).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = last.key.clone();
        found.extend(page.iter().filter_map(|listed| match listed.key.parse() {
            Ok(ObjectKey::Generation(number, name)) => Some((number, name)),
            _ => None,
        }));
    }
}

/// Leaves a new name in database and bucket. The caller has the collection's lock, and [`check`]ed.
///
/// The database first, and the same name again after a failure: whenever this is cut off, the bucket has
/// nothing that the database cannot explain.
///
/// # Errors
/// When the database or the bucket fails.
pub async fn next_generation(cx: &Uploads) -> Result<(), Distrust> {
    let connection = cx.store.connection().await?;
    let Some((cluster, known)) = store::identity(&connection).await?.recorded else {
        return Err(StoreError::NoRow("look up the identity").into());
    };
    let name = known.next.unwrap_or_else(random_part);
    store::set_next_generation(&connection, name).await?;
    put(cx, known.number + 1, name).await?;
    if !store::confirm_generation(&connection, cluster, known.number + 1, name).await? {
        return Err(Distrust::Moved);
    }
    remove_others(cx, known.number + 1, name).await
}

/// Trusts database and bucket as they are now: they have just been repaired. The caller has the
/// collection's lock.
///
/// # Errors
/// When the database or the bucket fails.
pub async fn renew(cx: &Uploads) -> Result<(), Distrust> {
    let connection = cx.store.connection().await?;
    let found = generations(&cx.bucket).await?;
    let known = store::identity(&connection).await?.recorded.map_or(0, |(_, known)| known.number);
    let number = found.iter().map(|(number, _)| *number).max().unwrap_or(0).max(known) + 1;
    let name = random_part();
    put(cx, number, name).await?;
    store::record_identity(&connection, number, Some(name)).await?;
    remove_others(cx, number, name).await
}

async fn put(cx: &Uploads, number: u64, name: RandomPart) -> Result<(), S3Error> {
    let key = ObjectKey::Generation(number, name);
    cx.bucket.put(&key, format!("{key}\n").into_bytes(), now()).await
}

/// Deletes what came before. It can be explained, whether it goes or not.
async fn remove_others(cx: &Uploads, number: u64, name: RandomPart) -> Result<(), Distrust> {
    for other in generations(&cx.bucket).await? {
        let key = ObjectKey::Generation(other.0, other.1);
        if other != (number, name)
            && let Err(error) = cx.bucket.delete_once(&key, now()).await
        {
            warn!(cause = %error, "cannot delete {key}");
        }
    }
    Ok(())
}

/// Nobody waits for when these can no longer be written, so our own clock will do.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u8) -> RandomPart {
        RandomPart::from_random([n; 24])
    }

    #[test]
    fn only_what_the_database_can_explain_fits() {
        let known = Generation { number: 3, name: Some(name(3)), next: Some(name(4)) };
        for fits in
            [vec![(3, name(3))], vec![(3, name(3)), (4, name(4))], vec![(2, name(2)), (3, name(3))]]
        {
            assert!(explain(&fits, &known).is_ok(), "{fits:?}");
        }
        for older in [
            vec![(3, name(3)), (4, name(5))],
            vec![(3, name(3)), (5, name(4))],
            vec![(3, name(9))],
            vec![(7, name(7))],
        ] {
            let found = explain(&older, &known).unwrap_err();
            assert!(matches!(found, Distrust::DatabaseOlder(_)), "{older:?}");
        }
        for gone in [vec![], vec![(2, name(2))], vec![(4, name(4))]] {
            assert!(matches!(explain(&gone, &known), Err(Distrust::BucketOlder(_))), "{gone:?}");
        }
        // A new database before a bucket that has been collected in.
        assert!(explain(&[(1, name(1))], &Generation::default()).is_err());
        assert!(explain(&[], &Generation::default()).is_ok());
    }
}
