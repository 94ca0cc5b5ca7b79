//! `POST /api/v1/uploads/{id}/stored`: what a client says it has sent, and whether it is there.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::{
    hash::ChecksumAlgorithm,
    limits::MAX_OBJECTS_PER_CALL,
    object_key::{ObjectKey, ObjectKind},
    parts::MAX_PARTS,
    wire::{StoredObject, StoredPart, StoredRequest, StoredResponse, UploadId},
};

use super::{
    Caller, UploadError, Uploads,
    look::{self, LOOKS_AT_ONCE},
    multipart, retry,
};
use crate::{
    s3::{COMPLETE_TIME, S3Error},
    store::{self, Multipart, OwnObject, Sent},
};

/// Multipart uploads that one report completes: all begin at once, so that none is signed long before
/// it begins.
const MAX_COMPLETIONS: usize = 8;

/// Characters of an ETag: those of S3 have 34 and some more for multipart uploads.
const MAX_ETAG_CHARS: usize = 128;

/// Takes a report. Multipart uploads are completed, and each NAR is looked for: only what is there
/// as reported counts as stored.
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
    let in_parts = request.objects.iter().filter(|object| !object.parts.is_empty()).count();
    if in_parts > MAX_COMPLETIONS {
        return Err(UploadError::TooMany { count: in_parts, limit: MAX_COMPLETIONS });
    }
    let reported = reported(request, cx.bucket.checksum)?;
    let own = retry(|| look_up(cx, caller, id, request)).await?;
    // The look comes after the report and without a transaction: S3 may be slow.
    let Own { objects, multiparts, signed_at } = own;
    let looked: Vec<(OwnObject, bool)> = stream::iter(objects)
        .map(|object| {
            let (report, multipart) = (reported[&object.key], multiparts.get(&object.key));
            async move {
                let there = is_there(cx, &object, report, multipart, signed_at).await?;
                Ok::<_, S3Error>((object, there))
            }
        })
        .buffer_unordered(LOOKS_AT_ONCE)
        .try_collect()
        .await?;
    let (there, missing): (Vec<_>, Vec<_>) = looked.into_iter().partition(|(_, there)| *there);
    let there: Vec<Sent> = there.iter().map(|(object, _)| sent(object, &reported)).collect();
    let others = retry(|| record(cx, caller, id, request, &there)).await?;
    multipart::abort_others(cx, others).await;
    Ok(StoredResponse { missing: missing.into_iter().map(|(object, _)| object.key).collect() })
}

fn sent(object: &OwnObject, reported: &HashMap<ObjectKey, &StoredObject>) -> Sent {
    let report = reported.get(&object.key);
    let parts = report.map_or(&[][..], |report| report.parts.as_slice());
    Sent {
        id: object.id,
        file_hash: report.and_then(|report| report.file_hash),
        bytes: (!parts.is_empty()).then(|| parts.iter().map(|part| part.bytes).sum()),
    }
}

fn reported(
    request: &StoredRequest,
    checked: ChecksumAlgorithm,
) -> Result<HashMap<ObjectKey, &StoredObject>, UploadError> {
    let mut reported = HashMap::new();
    for object in &request.objects {
        if object.key.kind() == ObjectKind::Nar && object.file_hash.is_none() {
            return Err(UploadError::NoFileHash(object.key.clone()));
        }
        if reported.insert(object.key.clone(), object).is_some() {
            return Err(UploadError::Twice(object.key.to_string()));
        }
        check_parts(&object.key, &object.parts)?;
        if object.parts.iter().any(|part| part.checksum.algorithm() != checked) {
            return Err(UploadError::OtherChecksum(object.key.to_string()));
        }
    }
    Ok(reported)
}

/// From 1 on, none left out, in order: S3 takes others, and we would not know what it made of them.
fn check_parts(key: &ObjectKey, parts: &[StoredPart]) -> Result<(), UploadError> {
    let plain = |etag: &str| {
        (1..=MAX_ETAG_CHARS).contains(&etag.len())
            && etag.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let in_order = parts.iter().zip(1..).all(|(part, number)| part.number == number);
    let known_size = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(part.bytes));
    let few = parts.len() <= usize::from(MAX_PARTS);
    let of_nar = parts.is_empty() || key.kind() == ObjectKind::Nar;
    if few
        && of_nar
        && in_order
        && known_size.is_some()
        && parts.iter().all(|part| plain(&part.etag))
    {
        return Ok(());
    }
    Err(UploadError::Parts(key.clone()))
}

struct Own {
    objects: Vec<OwnObject>,
    multiparts: HashMap<ObjectKey, Multipart>,
    /// The database's time that completions are to be signed with.
    signed_at: f64,
}

async fn look_up(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    request: &StoredRequest,
) -> Result<Own, UploadError> {
    let keys: Vec<ObjectKey> = request.objects.iter().map(|object| object.key.clone()).collect();
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let upload = store::lock(&tx, id, &caller.0, cx.idle_time()).await?.if_open()?;
    let objects = store::own_objects(&tx, upload.number, &keys).await?;
    // A listing or log may have become another upload's meanwhile; it is optional. A NAR key never does.
    let stray = keys
        .iter()
        .find(|key| !store::is_optional(key) && !objects.iter().any(|object| object.key == **key));
    if let Some(key) = stray {
        return Err(UploadError::NotOwn(key.clone()));
    }
    let in_parts: Vec<ObjectKey> = request
        .objects
        .iter()
        .filter(|object| !object.parts.is_empty())
        .map(|object| object.key.clone())
        .collect();
    let (mut multiparts, mut signed_at) = (Vec::new(), 0.0);
    if !in_parts.is_empty() {
        multiparts = store::own_multiparts(&tx, upload.number, &in_parts).await?;
        // Completing is writing: recorded before the request is under way.
        tx.enter_gate().await?;
        let times = cx.bucket.times;
        let time = times.writable(times.own_url() + COMPLETE_TIME, 0);
        let written: Vec<_> = multiparts.iter().map(|multipart| (multipart.id, time)).collect();
        signed_at = store::hold_and_write(&tx, upload.number, &written).await?;
    }
    tx.commit().await?;
    let multiparts = multiparts.into_iter().map(|one| (one.key.clone(), one)).collect();
    Ok(Own { objects, multiparts, signed_at })
}

/// Listings and logs are optional and nothing rests on them, so only NARs are worth the request.
async fn is_there(
    cx: &Uploads,
    object: &OwnObject,
    report: &StoredObject,
    multipart: Option<&Multipart>,
    signed_at: f64,
) -> Result<bool, S3Error> {
    if object.stored || object.key.kind() != ObjectKind::Nar {
        return Ok(true);
    }
    if report.parts.is_empty() {
        return look::is_there(&cx.bucket, &object.key, Some(object.bytes)).await;
    }
    match multipart {
        Some(multipart) => multipart::complete(cx, multipart, &report.parts, signed_at).await,
        None => Ok(false),
    }
}

/// Answers multipart uploads of anyone that nobody needs any more.
async fn record(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    request: &StoredRequest,
    there: &[Sent],
) -> Result<Vec<Multipart>, UploadError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    // Locked again: an upload that ended while we looked holds nothing any more, and what it sent
    // may be claimed by now.
    let upload = store::lock(&tx, id, &caller.0, cx.idle_time()).await?.if_open()?;
    tx.enter_gate().await?;
    store::mark_sent(&tx, upload.number, there).await?;
    store::mark_no_listing(&tx, upload.number, &request.no_listing).await?;
    let completed: Vec<i64> =
        there.iter().filter(|sent| sent.bytes.is_some()).map(|sent| sent.id).collect();
    store::forget_multiparts(&tx, &completed).await?;
    let nars: Vec<i64> =
        there.iter().filter(|sent| sent.file_hash.is_some()).map(|sent| sent.id).collect();
    let others = store::other_multiparts(&tx, &nars, multipart::DUPLICATES).await?;
    tx.commit().await?;
    Ok(others)
}
