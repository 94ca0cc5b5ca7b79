//! `POST /api/v1/uploads/{id}/urls`: presigned URLs, just in time.

use std::collections::{HashMap, HashSet};

use niks3_core::{
    hash::{BodyChecksum, ChecksumAlgorithm},
    limits::{MAX_LISTING_BYTES, MAX_LOG_BYTES, MAX_OBJECTS_PER_CALL, MAX_PUT_BYTES},
    parts::{MAX_PART_BYTES, MAX_PARTS},
    wire::{ObjectSpec, PresignedUrl, UploadId, UrlAnswer, UrlsRequest, UrlsResponse},
};

use super::{
    Caller, UploadError, Uploads,
    grant::{Granted, Name, bytes, grant},
    multipart, retry,
};
use crate::s3::{Body, PresignedPut};

/// Answers what to do about each object: a URL, or why none is needed.
///
/// # Errors
/// See [`UploadError`].
pub async fn urls(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    request: &UrlsRequest,
) -> Result<UrlsResponse, UploadError> {
    check(&request.objects, cx.bucket.checksum)?;
    multipart::confirm_adoptable(cx, &request.objects).await?;
    let (granted, signed_at) = retry(|| grant(cx, caller, id, &request.objects)).await?;
    // Presigned only now: that these keys may be written is committed.
    let opened = multipart::open_all(cx, granted.values()).await?;
    let answers = Answers { cx, granted, opened, signed_at };
    Ok(UrlsResponse { objects: request.objects.iter().map(|object| answers.of(object)).collect() })
}

struct Answers<'a> {
    cx: &'a Uploads,
    granted: HashMap<Name, Granted>,
    /// Rows of the NARs whose multipart uploads S3 has opened.
    opened: HashSet<i64>,
    /// See [`grant`].
    signed_at: f64,
}

impl Answers<'_> {
    fn of(&self, object: &ObjectSpec) -> UrlAnswer {
        let Some(granted) = self.granted.get(&Name::of(object)) else {
            return match object {
                ObjectSpec::Listing { .. } | ObjectSpec::Log { .. } => UrlAnswer::Busy,
                _ => UrlAnswer::Gone,
            };
        };
        let (bucket, lifetime) = (&self.cx.bucket, self.cx.bucket.times.url_lifetime);
        let put = |key, put: PresignedPut| {
            let (url, headers) = (PresignedUrl(put.url.into()), put.headers);
            UrlAnswer::Put { key, url, headers }
        };
        match (granted, body(object)) {
            (Granted::Adopted, _) => UrlAnswer::Stored,
            (Granted::Row(own), _) if own.stored => UrlAnswer::Stored,
            (Granted::Row(own), Some(body)) => {
                let signed = bucket.presign_put(&own.key, body, self.signed_at, lifetime);
                put(own.key.clone(), signed)
            }
            (Granted::Part(multipart), Some(body)) => {
                let (ObjectSpec::Part { number, .. }, Some(s3_id)) = (object, &multipart.s3_id)
                else {
                    return UrlAnswer::Gone;
                };
                let of = (&multipart.key, s3_id.as_str());
                let signed = bucket.presign_part(of, *number, body, self.signed_at, lifetime);
                put(multipart.key.clone(), signed)
            }
            (Granted::Open(multipart), _) => UrlAnswer::Multipart { key: multipart.key.clone() },
            (Granted::ToOpen(multipart), _) if self.opened.contains(&multipart.id) => {
                UrlAnswer::Multipart { key: multipart.key.clone() }
            }
            // The push ended while S3 opened it.
            (Granted::ToOpen(_) | Granted::Row(_) | Granted::Part(_), _) => UrlAnswer::Gone,
        }
    }
}

/// The body that a URL is for.
fn body(object: &ObjectSpec) -> Option<Body> {
    checksum(object).map(|checksum| Body { bytes: bytes(object), checksum })
}

fn checksum(object: &ObjectSpec) -> Option<BodyChecksum> {
    match object {
        ObjectSpec::Nar { checksum, .. }
        | ObjectSpec::Listing { checksum, .. }
        | ObjectSpec::Log { checksum, .. }
        | ObjectSpec::Part { checksum, .. } => Some(*checksum),
        ObjectSpec::LargeNar { .. } => None,
    }
}

fn check(objects: &[ObjectSpec], checked: ChecksumAlgorithm) -> Result<(), UploadError> {
    let (count, limit) = (objects.len(), MAX_OBJECTS_PER_CALL);
    if count > limit {
        return Err(UploadError::TooMany { count, limit });
    }
    let mut names = HashSet::new();
    for object in objects {
        let (what, limit) = match object {
            ObjectSpec::Nar { nar_hash, .. } | ObjectSpec::LargeNar { nar_hash } => {
                (format!("the NAR {nar_hash}"), MAX_PUT_BYTES)
            }
            ObjectSpec::Listing { path, .. } => {
                (format!("the listing of {path}"), MAX_LISTING_BYTES)
            }
            ObjectSpec::Log { path, .. } => (format!("the log of {path}"), MAX_LOG_BYTES),
            ObjectSpec::Part { key, number, .. } => {
                if !(1..=MAX_PARTS).contains(number) {
                    return Err(UploadError::PartNumber(*number));
                }
                (format!("part {number} of {key}"), MAX_PART_BYTES)
            }
        };
        let bytes = bytes(object);
        if bytes > limit {
            return Err(UploadError::TooLarge { what, bytes, limit });
        }
        // A URL without the checksum that the store looks at would take any body.
        if checksum(object).is_some_and(|checksum| checksum.algorithm() != checked) {
            return Err(UploadError::OtherChecksum(what));
        }
        if !names.insert(Name::of(object)) {
            return Err(UploadError::Twice(what));
        }
    }
    Ok(())
}
