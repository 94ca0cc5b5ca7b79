//! `POST /api/v1/uploads/{id}/stored`: what a client says it has sent, and whether it is there.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::{
    hash::FileHash,
    limits::MAX_OBJECTS_PER_CALL,
    object_key::{ObjectKey, ObjectKind},
    wire::{StoredRequest, StoredResponse, UploadId},
};

use super::{Caller, IDLE_TIME, UploadError, Uploads, retry};
use crate::{
    s3::S3Error,
    store::{self, OwnObject},
};

/// NARs that one call looks for at once; all calls together stay within the bucket's own bound.
const HEADS_AT_ONCE: usize = 32;

/// Takes a report. Each NAR is looked for: only what is there as reported counts as stored.
///
/// # Errors
/// See [`UploadError`].
pub async fn stored(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    request: &StoredRequest,
) -> Result<StoredResponse, UploadError> {
    let (count, limit) = (request.objects.len() + request.no_listing.len(), MAX_OBJECTS_PER_CALL);
    if count > limit {
        return Err(UploadError::TooMany { count, limit });
    }
    let hashes = reported(request)?;
    let own = retry(|| look_up(cx, caller, id, request)).await?;
    // The look comes after the report and without a transaction: S3 may be slow.
    let looked: Vec<(OwnObject, bool)> = stream::iter(own)
        .map(|object| async move { is_there(cx, &object).await.map(|there| (object, there)) })
        .buffer_unordered(HEADS_AT_ONCE)
        .try_collect()
        .await?;
    let (there, missing): (Vec<_>, Vec<_>) = looked.into_iter().partition(|(_, there)| *there);
    let there: Vec<_> = there
        .iter()
        .map(|(object, _)| (object.id, hashes.get(&object.key).copied().flatten()))
        .collect();
    retry(|| record(cx, caller, id, request, &there)).await?;
    Ok(StoredResponse { missing: missing.into_iter().map(|(object, _)| object.key).collect() })
}

fn reported(request: &StoredRequest) -> Result<HashMap<ObjectKey, Option<FileHash>>, UploadError> {
    let mut hashes = HashMap::new();
    for object in &request.objects {
        if object.key.kind() == ObjectKind::Nar && object.file_hash.is_none() {
            return Err(UploadError::NoFileHash(object.key.clone()));
        }
        if hashes.insert(object.key.clone(), object.file_hash).is_some() {
            return Err(UploadError::Twice(object.key.to_string()));
        }
    }
    Ok(hashes)
}

async fn look_up(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    request: &StoredRequest,
) -> Result<Vec<OwnObject>, UploadError> {
    let keys: Vec<ObjectKey> = request.objects.iter().map(|object| object.key.clone()).collect();
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let upload = store::lock(&tx, id, &caller.0, cx.url_lifetime + IDLE_TIME).await?.if_open()?;
    let own = store::own_objects(&tx, upload.number, &keys).await?;
    tx.commit().await?;
    // A listing may have become another upload's meanwhile; it is optional. A NAR key never does.
    let stray = keys.into_iter().find(|key| {
        key.kind() != ObjectKind::Listing && !own.iter().any(|object| object.key == *key)
    });
    match stray {
        Some(key) => Err(UploadError::NotOwn(key)),
        None => Ok(own),
    }
}

/// Listings are optional and nothing rests on them, so only NARs are worth the request.
async fn is_there(cx: &Uploads, object: &OwnObject) -> Result<bool, S3Error> {
    if object.stored || object.key.kind() != ObjectKind::Nar {
        return Ok(true);
    }
    let head = cx.bucket.head(&object.key).await?;
    Ok(head.is_some_and(|head| head.bytes == Some(object.bytes) && head.encoding.is_none()))
}

async fn record(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    request: &StoredRequest,
    there: &[(i64, Option<FileHash>)],
) -> Result<(), UploadError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    // Locked again: an upload that ended while we looked holds nothing any more, and what it sent
    // may be claimed by now.
    let upload = store::lock(&tx, id, &caller.0, cx.url_lifetime + IDLE_TIME).await?.if_open()?;
    tx.enter_gate().await?;
    store::mark_sent(&tx, upload.number, there).await?;
    store::mark_no_listing(&tx, upload.number, &request.no_listing).await?;
    Ok(tx.commit().await?)
}
