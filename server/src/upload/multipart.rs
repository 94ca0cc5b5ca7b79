//! Large NARs: multipart uploads are opened, completed and aborted here, and nowhere else.

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt as _, stream};
use niks3_core::{
    hash::NarHash,
    object_key::ObjectKey,
    wire::{ObjectSpec, StoredPart},
};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{UploadError, Uploads, grant::Granted, look, retry};
use crate::{
    s3::S3Error,
    store::{self, Multipart, StoreError},
};

/// Requests to S3 of one call; all calls together stay within the bucket's own bound.
const AT_ONCE: usize = 8;

/// Looks for an object whose multipart upload is no more, and the pause between two.
const LOOKS: usize = 4;
const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// Duplicates that one report aborts; the rest are aborted when their own pushes end.
pub(super) const DUPLICATES: usize = 32;

/// How long a report waits for its duplicates to be aborted.
const ABORT_TIME: Duration = Duration::from_secs(10);

/// Multipart uploads of ended pushes that are aborted in one go.
const ENDED_AT_ONCE: usize = 100;

/// Looks whether those large NARs that would be adopted are really there: a push whose own multipart
/// upload was aborted for another one's counts that as success only then. What is lost is noted, so
/// that it is not adopted.
pub(super) async fn confirm_adoptable(
    cx: &Uploads,
    objects: &[ObjectSpec],
) -> Result<(), UploadError> {
    let large: Vec<NarHash> = objects
        .iter()
        .filter_map(|object| match object {
            ObjectSpec::LargeNar { nar_hash } => Some(*nar_hash),
            _ => None,
        })
        .collect();
    if large.is_empty() {
        return Ok(());
    }
    // There may be several of the same contents: what is adopted is the first that was not lost.
    loop {
        let recorded = store::recorded_nars(&cx.store.connection().await?, &large).await?;
        if look::note_lost(cx, recorded).await?.is_empty() {
            return Ok(());
        }
    }
}

/// Has S3 open what is to be opened. Answers the rows of those that are. All are tried before one that
/// failed is answered: the same call again then finds those that are open.
pub(super) async fn open_all(
    cx: &Uploads,
    granted: impl Iterator<Item = &Granted>,
) -> Result<HashSet<i64>, UploadError> {
    let to_open: Vec<Multipart> = granted
        .filter_map(|granted| match granted {
            Granted::ToOpen(multipart) => Some(multipart.clone()),
            _ => None,
        })
        .collect();
    let opened: Vec<Result<Option<i64>, UploadError>> = stream::iter(to_open)
        .map(|multipart| open(cx, multipart))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let opened: Vec<Option<i64>> = opened.into_iter().collect::<Result<_, _>>()?;
    Ok(opened.into_iter().flatten().collect())
}

/// `None`: the push has ended meanwhile.
async fn open(cx: &Uploads, multipart: Multipart) -> Result<Option<i64>, UploadError> {
    let s3_id = cx.bucket.open_multipart(&multipart.key).await?;
    let noted = retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        let noted = store::multipart_opened(&tx, multipart.id, &s3_id).await?;
        tx.commit().await?;
        Ok(noted)
    });
    if noted.await? {
        return Ok(Some(multipart.id));
    }
    cx.bucket.abort_multipart(&multipart.key, &s3_id).await?;
    Ok(None)
}

/// Has S3 make one object of the parts. `false`: it is not there, and never will be.
///
/// Only the object itself decides. S3 may answer 200 and an error in the body; its answer may be
/// lost although the object is there; and a second call for what was completed by a first one is
/// told that there is no such upload.
///
/// # Errors
/// When S3 cannot say. Asking again is safe.
pub(super) async fn complete(
    cx: &Uploads,
    multipart: &Multipart,
    parts: &[StoredPart],
    signed_at: f64,
) -> Result<bool, S3Error> {
    let (key, bytes) = (&multipart.key, parts.iter().map(|part| part.bytes).sum());
    let Some(s3_id) = &multipart.s3_id else { return Ok(false) };
    let completed = cx.bucket.complete_multipart(key, s3_id, parts, signed_at).await;
    for look in 1.. {
        if look::is_there(&cx.bucket, key, Some(bytes)).await? {
            if let Err(error) = completed {
                debug!(error = &error as &dyn std::error::Error, "completed all the same: {key}");
            }
            return Ok(true);
        }
        // An earlier call may have S3 still putting the parts together.
        let gone = completed.as_ref().is_err_and(S3Error::is_no_such_upload);
        if !gone || look == LOOKS {
            break;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    match completed {
        Err(error) if error.is_no_such_upload() => Ok(false),
        Err(error) => Err(error),
        Ok(()) => Ok(false),
    }
}

/// Aborts multipart uploads of contents that are stored by now. Their rows stay until their own push
/// ends, and are aborted again then: a part that is on its way now may arrive after this.
pub(super) async fn abort_others(cx: &Uploads, others: Vec<Multipart>) {
    if others.is_empty() {
        return;
    }
    let aborts = stream::iter(others).for_each_concurrent(AT_ONCE, |other| async move {
        if let Err(error) = abort(cx, &other).await {
            warn!(error = &error as &dyn std::error::Error, "cannot abort a duplicate upload");
        }
    });
    // What is not aborted in time is when its own push ends.
    let _ = timeout(ABORT_TIME, aborts).await;
}

/// Aborts all that an ended upload has open at S3. The rows stay: a part, or the opening itself, may
/// still be on its way, so all of it is aborted once more by [`abort_ended`].
pub(super) async fn abort_of(cx: &Uploads, upload: i64) -> Result<(), StoreError> {
    let open = store::multiparts_of(&cx.store.connection().await?, upload).await?;
    abort_all(cx, open).await;
    Ok(())
}

/// Aborts multipart uploads whose push has ended or is gone, when nobody can write a part any more:
/// what a crash of a client or a server leaves at S3, which is paid for and seen by nobody. Answers
/// how many there were.
///
/// # Errors
/// When the database fails. What S3 does not abort is left for the next time.
pub async fn abort_ended(cx: &Uploads) -> Result<usize, StoreError> {
    let (mut aborted, mut after) = (0, 0);
    loop {
        let connection = cx.store.connection().await?;
        let ended = store::ended_multiparts(&connection, after, ENDED_AT_ONCE).await?;
        drop(connection);
        let Some(last) = ended.last() else { return Ok(aborted) };
        after = last.id;
        let gone = abort_all(cx, ended).await;
        aborted += gone.len();
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        store::forget_multiparts(&tx, &gone).await?;
        tx.commit().await?;
    }
}

/// Answers the rows of those that S3 has no more.
async fn abort_all(cx: &Uploads, open: Vec<Multipart>) -> Vec<i64> {
    let aborted: Vec<Option<i64>> = stream::iter(open)
        .map(|multipart| async move {
            match abort(cx, &multipart).await {
                Ok(()) => Some(multipart.id),
                Err(error) => {
                    let key = multipart.key;
                    warn!(error = &error as &dyn std::error::Error, "cannot abort {key} at S3");
                    None
                }
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    aborted.into_iter().flatten().collect()
}

async fn abort(cx: &Uploads, multipart: &Multipart) -> Result<(), S3Error> {
    let key: &ObjectKey = &multipart.key;
    if let Some(s3_id) = &multipart.s3_id {
        return cx.bucket.abort_multipart(key, s3_id).await;
    }
    // S3 may have opened it and nobody heard.
    for s3_id in cx.bucket.open_multiparts(key).await? {
        cx.bucket.abort_multipart(key, &s3_id).await?;
    }
    Ok(())
}
