//! Is in the bucket what the database says?

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::{
    limits::MAX_OBJECTS_PER_CALL,
    object_key::{ObjectKey, ObjectKind},
    wire::{VerifyRequest, VerifyResponse},
};
use tracing::warn;

use super::{UploadError, Uploads, retry};
use crate::{
    s3::{Bucket, S3Error},
    store::{self, Recorded},
};

/// Objects that one call looks for at once; all calls together stay within the bucket's own bound.
pub(super) const LOOKS_AT_ONCE: usize = 32;

/// `POST /api/v1/verify`: looks for the narinfos, NARs and listings of some paths. What is not there
/// counts as missing from now on.
///
/// # Errors
/// See [`UploadError`].
pub async fn verify(cx: &Uploads, request: &VerifyRequest) -> Result<VerifyResponse, UploadError> {
    let (count, limit) = (request.paths.len(), MAX_OBJECTS_PER_CALL);
    if count > limit {
        return Err(UploadError::TooMany { count, limit });
    }
    let recorded = store::recorded(&cx.store.connection().await?, &request.paths).await?;
    let looked_for = recorded.len() as u64;
    Ok(VerifyResponse { looked_for, lost: note_lost(cx, recorded).await? })
}

/// Looks for objects, and notes which of them are not in the bucket. Answers those.
///
/// # Errors
/// When database or bucket fail.
pub async fn note_lost(
    cx: &Uploads,
    recorded: Vec<Recorded>,
) -> Result<Vec<ObjectKey>, UploadError> {
    let looked: Vec<Option<Recorded>> = stream::iter(recorded)
        .map(|object| async move {
            let lost = is_lost(&cx.bucket, &object.key, object.bytes).await?;
            Ok::<_, S3Error>(lost.then_some(object))
        })
        .buffer_unordered(LOOKS_AT_ONCE)
        .try_collect()
        .await?;
    let lost: Vec<Recorded> = looked.into_iter().flatten().collect();
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        // Alone: a commit that is about to compose with a lost NAR, or to note as published what is
        // being voided, would win unseen.
        tx.enter_gate_alone().await?;
        store::void_lost(&tx, &lost).await?;
        Ok(tx.commit().await?)
    })
    .await?;
    let lost: Vec<ObjectKey> = lost.into_iter().map(|object| object.key).collect();
    warn!(objects.lost = lost.len(), objects.example = ?lost.first(), "the bucket has lost objects");
    Ok(lost)
}

/// Whether an object is not in the bucket, or not as it should be. A "no" to a HEAD is asked again in
/// words: it has no body, so it may be a proxy's that does not find S3.
async fn is_lost(bucket: &Bucket, key: &ObjectKey, bytes: Option<u64>) -> Result<bool, S3Error> {
    let Some(head) = bucket.head(key).await? else { return bucket.is_missing(key).await };
    let other_size = head.bytes.zip(bytes).is_some_and(|(is, should)| is != should);
    Ok(other_size || (key.kind() == ObjectKind::Nar && head.encoding.is_some()))
}

/// Whether an object is in the bucket, of that size if it is known. A NAR with a Content-Encoding is
/// none: every Nix would decode it once too often.
pub(super) async fn is_there(
    bucket: &Bucket,
    key: &ObjectKey,
    bytes: Option<u64>,
) -> Result<bool, S3Error> {
    let Some(head) = bucket.head(key).await? else { return Ok(false) };
    let right_size = bytes.is_none_or(|bytes| head.bytes == Some(bytes));
    Ok(right_size && (key.kind() != ObjectKind::Nar || head.encoding.is_none()))
}
