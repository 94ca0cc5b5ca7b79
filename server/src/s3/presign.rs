//! Presigned URLs, for clients and for ourselves.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use niks3_core::{hash::BodyChecksum, object_key::ObjectKey};
use rusty_s3::S3Action as _;
use url::Url;

use super::Bucket;

/// The one body that a URL is for.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// Its length.
    pub bytes: u64,
    /// A store refuses what was damaged on the way.
    pub checksum: BodyChecksum,
}

impl Body {
    /// The headers that pin it down once they are signed.
    pub(super) fn headers(&self) -> BTreeMap<String, String> {
        let (checksum, value) = self.checksum.header();
        BTreeMap::from([
            ("content-length".to_owned(), self.bytes.to_string()),
            (checksum.to_owned(), value),
        ])
    }
}

/// Where to PUT, and what to send with it: all of these headers are signed.
#[derive(Clone)]
pub struct PresignedPut {
    /// Who has it may write the key, with that body.
    pub url: Url,
    /// By name, in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Bucket {
    /// A URL that takes exactly `body` as `key`, for `lifetime` from `signed_at` on: seconds since
    /// 1970. That is the database's time wherever it was recorded that the key may be written, so
    /// that the URL ends when the record says, whatever our own clock does.
    #[must_use]
    pub fn presign_put(
        &self,
        key: &ObjectKey,
        body: Body,
        signed_at: f64,
        lifetime: Duration,
    ) -> PresignedPut {
        let mut headers = body.headers();
        headers.extend(self.object_headers(key));
        let name = key.to_string();
        let mut put = self.bucket.put_object(Some(&self.credentials), &name);
        for (header, value) in &headers {
            put.headers_mut().insert(header.clone(), value.clone());
        }
        let signed_at = Timestamp::from_second(signed_at as i64).unwrap_or_default();
        PresignedPut { url: put.sign_with_time(lifetime, &signed_at), headers }
    }
}
