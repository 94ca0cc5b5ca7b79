//! A second look at what seemed to be wrong.
//!
//! The bucket was listed at another moment than the rows were read, and pushes and collections may be
//! under way. So the bucket is asked again, and after it the database: what is there has a row at all times,
//! and what is stored is there while its row says so and is the same.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::object_key::ObjectKey;

use super::{Finding, FsckError, Kind};
use crate::{
    s3::{Bucket, S3Error},
    store::{self, KnownObject},
    upload::Uploads,
};

/// Objects that are looked for at once; the bucket has its own bound.
pub(super) const LOOKS_AT_ONCE: usize = 32;

/// What may be wrong.
pub(super) struct Suspect {
    pub(super) kind: Kind,
    pub(super) key: ObjectKey,
    /// Its row when it was first read.
    pub(super) row: Option<KnownObject>,
}

/// What of it is wrong. `fenced`: see [`super::report_with`].
pub(super) async fn confirm(
    cx: &Uploads,
    fenced: bool,
    suspects: Vec<Suspect>,
) -> Result<Vec<Finding>, FsckError> {
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let looked: Vec<Option<Suspect>> = stream::iter(suspects)
        .map(|suspect| async move {
            let still = is_still_so(&cx.bucket, &suspect).await?;
            Ok::<_, S3Error>(still.then_some(suspect))
        })
        .buffered(LOOKS_AT_ONCE)
        .try_collect()
        .await?;
    let suspects: Vec<Suspect> = looked.into_iter().flatten().collect();
    let keys: Vec<String> = suspects.iter().map(|suspect| suspect.key.to_string()).collect();
    let connection = cx.store.connection().await?;
    let rows = store::objects_of(&connection, &keys).await?;
    let unwritten: Vec<i64> = suspects
        .iter()
        .filter(|suspect| suspect.kind == Kind::NotStoredButThere)
        .filter_map(|suspect| Some(suspect.row.as_ref()?.id))
        .collect();
    let abandoned: HashSet<i64> =
        store::abandoned_narinfos(&connection, &unwritten, fenced).await?.into_iter().collect();
    let rows: HashMap<&str, &KnownObject> =
        rows.iter().map(|row| (row.key.as_str(), row)).collect();
    let findings = suspects.iter().zip(&keys).filter_map(|(suspect, key)| {
        let Suspect { kind, row, .. } = suspect;
        if rows.get(key.as_str()).copied() != row.as_ref() {
            return None;
        }
        match row {
            None => Some(Finding::of_key(*kind, key)),
            Some(row) if *kind == Kind::NotStoredButThere && !abandoned.contains(&row.id) => None,
            Some(row) => Some(Finding::of_row(*kind, key, row.id)),
        }
    });
    Ok(findings.collect())
}

/// Whether the bucket says the same when it is asked for this one object.
async fn is_still_so(bucket: &Bucket, suspect: &Suspect) -> Result<bool, S3Error> {
    let head = bucket.head(&suspect.key).await?;
    match (suspect.kind, head) {
        // Asked again in words: a "no" to a HEAD may be a proxy's that does not find S3.
        (Kind::StoredNotThere, None) => bucket.is_missing(&suspect.key).await,
        (Kind::StoredNotThere, Some(_)) | (_, None) => Ok(false),
        (Kind::OtherSize, Some(head)) => {
            let should = suspect.row.as_ref().and_then(|row| row.bytes);
            Ok(head.bytes.zip(should).is_some_and(|(is, should)| is != should))
        }
        (_, Some(_)) => Ok(true),
    }
}
