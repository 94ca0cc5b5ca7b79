//! `nix-cache-info`: says for which store directory the cache is.

use std::time::{SystemTime, UNIX_EPOCH};

use niks3_core::{object_key::ObjectKey, store_path::StoreDir};
use tracing::info;

use crate::s3::{Bucket, S3Error};

/// Asked before the caches of a lower priority: cache.nixos.org has 40.
const PRIORITY: u32 = 30;

/// Why the bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheInfoError {
    /// It does not answer as it should.
    #[error("cannot use the bucket")]
    S3(#[from] S3Error),
    /// It is a cache of another store.
    #[error(
        "the bucket {bucket} is a cache for {theirs}, this server is for {ours}: \
         give it another --store-dir (NIX_STORE_DIR) or another bucket"
    )]
    StoreDir {
        /// The bucket.
        bucket: String,
        /// What its nix-cache-info says.
        theirs: String,
        /// Ours.
        ours: String,
    },
}

/// Writes `nix-cache-info` if the bucket has none. A reader that does not find it tries to PUT one
/// itself.
///
/// # Errors
/// When the bucket cannot be read or written, or is for another store directory.
pub async fn ensure(bucket: &Bucket, store_dir: &StoreDir) -> Result<(), CacheInfoError> {
    if let Some(body) = bucket.get(&ObjectKey::CacheInfo).await? {
        let text = String::from_utf8_lossy(&body);
        let theirs = text.lines().find_map(|line| line.strip_prefix("StoreDir:")).map(str::trim);
        return match theirs {
            Some(theirs) if theirs != store_dir.as_str() => Err(CacheInfoError::StoreDir {
                bucket: bucket.name().to_owned(),
                theirs: theirs.to_owned(),
                ours: store_dir.to_string(),
            }),
            _ => Ok(()),
        };
    }
    let text = format!("StoreDir: {store_dir}\nWantMassQuery: 1\nPriority: {PRIORITY}\n");
    // Nothing rests on when this one can no longer be written, so our own clock will do.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    bucket.put(&ObjectKey::CacheInfo, text.into_bytes(), now.as_secs_f64()).await?;
    info!(bucket.name = bucket.name(), "wrote nix-cache-info");
    Ok(())
}
