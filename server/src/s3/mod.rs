//! All S3. Knows nothing of our API, nor of SQL.
//!
//! Every request is presigned, the server's own included: then each of them ends by itself, also
//! one that is still on its way when its sender is gone.

mod config;
mod delete;
mod error;
mod list;
mod multipart;
mod presign;
mod remove;
mod request;
mod times;

pub use config::{BucketLookup, Credentials, S3Config, S3ConfigError};
pub use delete::{Deletion, Fence, MAX_BATCH};
pub use error::S3Error;
pub use list::{Listed, PAGE};
pub use multipart::COMPLETE_TIME;
pub use presign::{Body, PresignedPut};
pub use request::Head;
pub use times::Times;

use std::sync::{Arc, atomic::AtomicBool};

use niks3_core::{
    hash::ChecksumAlgorithm, object_key::ObjectKey, pace::Pace, wire::MetadataEncoding,
};

/// One bucket, with the credentials for it.
#[derive(Clone)]
pub struct Bucket {
    bucket: rusty_s3::Bucket,
    credentials: rusty_s3::Credentials,
    http: reqwest::Client,
    /// Where each of the server's own requests waits for its turn.
    pace: Arc<Pace>,
    /// Found out by asking: it deletes objects one by one only.
    no_batch_delete: Arc<AtomicBool>,
    /// Until when requests can take effect.
    pub times: Times,
    /// What it checks bodies by.
    pub checksum: ChecksumAlgorithm,
    /// How narinfos and listings lie in it.
    pub metadata_encoding: MetadataEncoding,
}

impl Bucket {
    /// The bucket's name, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        self.bucket.name()
    }

    /// The body of a text as it lies in the bucket.
    #[must_use]
    pub fn encode(&self, key: &ObjectKey, text: &str) -> Vec<u8> {
        match self.content_encoding(key) {
            None => text.as_bytes().to_vec(),
            // Level 3 of a few hundred bytes: what could fail is memory, and then all does.
            Some(_) => zstd::bulk::compress(text.as_bytes(), 3)
                .expect("zstd compresses whatever fits into memory"),
        }
    }
}
