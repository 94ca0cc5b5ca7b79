//! The parts of an upload, as far as they have arrived.

use std::{io, path::Path};

use s3s::{
    S3Error, S3Result,
    dto::{
        CompletedPart, ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput,
        ListPartsOutput, MultipartUpload, Part, Timestamp,
    },
    s3_error,
};
use tokio::fs;

use super::names::{Names, UploadNames};

/// Bytes that every part but the last has at least:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const MIN_PART_BYTES: u64 = 5 << 20;
/// Parts in one page of ListParts.
const MAX_PAGE: usize = 1000;

/// A part that has arrived.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) number: i32,
    etag: String,
    bytes: u64,
    modified: Timestamp,
}

/// All parts that have arrived in full, in order.
pub(super) async fn stored(root: &Path, upload: &UploadNames) -> S3Result<Vec<Stored>> {
    let prefix = upload.part_etag_prefix();
    let mut parts = Vec::new();
    let mut entries = fs::read_dir(root).await.map_err(S3Error::internal_error)?;
    while let Some(entry) = entries.next_entry().await.map_err(S3Error::internal_error)? {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        let Some(number) = number.and_then(|number| number.parse().ok()) else { continue };
        match part(upload, number).await {
            Ok(part) => parts.push(part),
            // A page of ListParts does not stop a part from being replaced meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(S3Error::internal_error(error)),
        }
    }
    parts.sort_unstable_by_key(|part| part.number);
    Ok(parts)
}

async fn part(upload: &UploadNames, number: i32) -> io::Result<Stored> {
    let etag = fs::read_to_string(upload.part_etag(number)).await?;
    let metadata = fs::metadata(upload.part(number)).await?;
    Ok(Stored { number, etag, bytes: metadata.len(), modified: metadata.modified()?.into() })
}

/// Checks what a client says that its upload consists of.
pub(super) fn check(named: &[CompletedPart], stored: &[Stored]) -> S3Result<()> {
    if named.is_empty() {
        return Err(s3_error!(MalformedXML, "an upload has at least one part"));
    }
    for (expected, part) in (1..).zip(named) {
        // S3 lets a client leave out numbers, s3s-fs does not.
        if part.part_number != Some(expected) {
            return Err(s3_error!(InvalidPartOrder, "parts are numbered 1, 2, 3 and so on"));
        }
        let stored = stored.iter().find(|stored| stored.number == expected);
        let stored = stored
            .filter(|stored| part.e_tag.as_ref().is_some_and(|etag| etag.value() == stored.etag));
        let Some(stored) = stored else {
            return Err(s3_error!(InvalidPart, "part {expected} is not there with this ETag"));
        };
        let is_last = usize::try_from(expected).is_ok_and(|expected| expected == named.len());
        if stored.bytes < MIN_PART_BYTES && !is_last {
            return Err(s3_error!(EntityTooSmall, "part {expected} has {} bytes", stored.bytes));
        }
    }
    Ok(())
}

/// The uploads that are under way in a bucket, all on one page: a small cache has few.
pub(super) async fn under_way(
    root: &Path,
    input: ListMultipartUploadsInput,
) -> S3Result<ListMultipartUploadsOutput> {
    let mut uploads = Vec::new();
    let mut entries = fs::read_dir(root).await.map_err(S3Error::internal_error)?;
    while let Some(entry) = entries.next_entry().await.map_err(S3Error::internal_error)? {
        let name = entry.file_name();
        let found = name.to_str().and_then(|name| Names::upload_in(&input.bucket, name));
        uploads.extend(found);
    }
    let prefix = input.prefix.clone().unwrap_or_default();
    uploads.retain(|(key, _)| key.starts_with(&prefix));
    uploads.sort();
    let upload = |(key, upload_id)| MultipartUpload {
        key: Some(key),
        upload_id: Some(upload_id),
        ..Default::default()
    };
    Ok(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: input.prefix,
        is_truncated: Some(false),
        uploads: Some(uploads.into_iter().map(upload).collect()),
        ..Default::default()
    })
}

/// One page of ListParts.
pub(super) fn page(input: ListPartsInput, stored: Vec<Stored>) -> ListPartsOutput {
    let after = input.part_number_marker.unwrap_or(0);
    let asked = input.max_parts.and_then(|max| usize::try_from(max).ok()).unwrap_or(MAX_PAGE);
    let room = asked.clamp(1, MAX_PAGE);
    let mut parts: Vec<Stored> = stored.into_iter().filter(|part| part.number > after).collect();
    let truncated = parts.len() > room;
    parts.truncate(room);
    ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        part_number_marker: Some(after),
        max_parts: i32::try_from(room).ok(),
        is_truncated: Some(truncated),
        next_part_number_marker: parts.last().map(|part| part.number),
        parts: Some(parts.into_iter().map(Part::from).collect()),
        ..Default::default()
    }
}

impl From<Stored> for Part {
    fn from(part: Stored) -> Self {
        Self {
            part_number: Some(part.number),
            e_tag: Some(ETag::Strong(part.etag)),
            size: i64::try_from(part.bytes).ok(),
            last_modified: Some(part.modified),
            ..Default::default()
        }
    }
}
