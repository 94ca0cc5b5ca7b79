//! What the server reads of S3's answers: see `shared.rs`.

use rusty_s3::actions::{CreateMultipartUpload, DeleteObjectsResponse, ListObjectsV2};

/// The XML of any answer is read or refused.
pub fn answers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = ListObjectsV2::parse_response(text);
    let _ = CreateMultipartUpload::parse_response(text);
    let _ = DeleteObjectsResponse::parse(text);
}
