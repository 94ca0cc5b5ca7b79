//! Where the bucket is and who we are to it.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use niks3_core::{hash::ChecksumAlgorithm, pace::Pace, wire::MetadataEncoding};
use rusty_s3::UrlStyle;
use url::Url;

use super::{Bucket, ObjectHeaders, Times};

/// How long connecting to S3 may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How the bucket's name stands in URLs. `--s3-bucket-lookup`, `NIKS3_S3_BUCKET_LOOKUP`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketLookup {
    /// `dns` at Amazon, `path` elsewhere.
    Auto,
    /// `https://bucket.endpoint/key`
    Dns,
    /// `https://endpoint/bucket/key`
    Path,
}

/// An access key and its secret. Its `Debug` shows neither.
#[derive(Clone)]
pub struct Credentials {
    /// The access key's id.
    pub access_key: String,
    /// The secret.
    pub secret_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Which bucket, and how to talk to it.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// The endpoint, scheme included. `--s3-endpoint`, `NIKS3_S3_ENDPOINT`
    pub endpoint: Url,
    /// `--s3-bucket`, `NIKS3_S3_BUCKET`
    pub bucket: String,
    /// `--s3-region`, `NIKS3_S3_REGION`
    pub region: String,
    /// See [`BucketLookup`].
    pub lookup: BucketLookup,
    /// `--s3-access-key[-path]`, `--s3-secret-key[-path]`
    pub credentials: Credentials,
    /// Requests at once, at most. `--s3-concurrency`, `NIKS3_S3_CONCURRENCY`
    pub concurrency: NonZeroUsize,
    /// `--url-lifetime`, `--s3-slack`
    pub times: Times,
    /// `--s3-checksum`, `NIKS3_S3_CHECKSUM`
    pub checksum: ChecksumAlgorithm,
    /// `--metadata-encoding`, `NIKS3_METADATA_ENCODING`
    pub metadata_encoding: MetadataEncoding,
    /// `--cache-control`, `--content-type`
    pub headers: ObjectHeaders,
}

/// Why there can be no such bucket.
#[derive(Debug, thiserror::Error)]
pub enum S3ConfigError {
    /// The URL of the bucket is none.
    #[error("{bucket:?} at {endpoint} makes no bucket URL: {why}")]
    Bucket {
        /// The bucket's name.
        bucket: String,
        /// The endpoint.
        endpoint: Url,
        /// What is wrong.
        why: String,
    },
    /// No HTTP client.
    #[error(
        "cannot set up an HTTP client; are the system's CA certificates (ca-certificates) there?"
    )]
    Http(#[source] reqwest::Error),
}

impl S3Config {
    /// Makes a client for the bucket. Sends nothing.
    ///
    /// # Errors
    /// When name and endpoint make no URL, or there are no CA certificates.
    pub fn open(self) -> Result<Bucket, S3ConfigError> {
        let host = self.endpoint.host_str().unwrap_or_default();
        let amazon = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
        let style = match self.lookup {
            BucketLookup::Auto if amazon => UrlStyle::VirtualHost,
            BucketLookup::Auto | BucketLookup::Path => UrlStyle::Path,
            BucketLookup::Dns => UrlStyle::VirtualHost,
        };
        let made =
            rusty_s3::Bucket::new(self.endpoint.clone(), style, self.bucket.clone(), self.region);
        let bucket = made.map_err(|why| S3ConfigError::Bucket {
            bucket: self.bucket,
            endpoint: self.endpoint,
            why: why.to_string(),
        })?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(self.concurrency.get())
            .build()
            .map_err(S3ConfigError::Http)?;
        let Credentials { access_key, secret_key } = self.credentials;
        Ok(Bucket {
            bucket,
            credentials: rusty_s3::Credentials::new(access_key, secret_key),
            http,
            pace: Arc::new(Pace::new(self.concurrency)),
            no_batch_delete: Arc::default(),
            times: self.times,
            checksum: self.checksum,
            metadata_encoding: self.metadata_encoding,
            headers: Arc::new(self.headers),
        })
    }
}
