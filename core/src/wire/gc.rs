//! `/api/v1/gc`: garbage collection.

use serde::{Deserialize, Serialize};

use crate::object_key::ObjectKey;

/// Body of `POST /api/v1/gc`: what may go. A run with the same body as the one that is under way
/// joins it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectRequest {
    /// Seconds: closures that were last pushed longer ago expire, unless they are pinned.
    pub older_than: u64,
    /// Seconds: pushes that gave no sign of life for longer have failed. Also the grace period: what
    /// was found to be garbage is deleted when it has been garbage for so long.
    pub failed_uploads_older_than: u64,
    /// No grace period.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Only say what would go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A run of garbage collection: answer to `POST` (202) and `GET /api/v1/gc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Counts up.
    pub number: u64,
    /// What it was asked to do.
    pub parameters: CollectRequest,
    /// Seconds since 1970, the database's clock.
    pub started_at: u64,
    /// When it ended, however that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<u64>,
    /// How it stands.
    pub state: CollectState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How far it is, or got.
    pub progress: CollectProgress,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectState {
    /// A server works on it.
    Running,
    /// The server that worked on it is gone. Another run goes on where it stopped.
    Interrupted,
    /// All is done.
    Finished,
    /// It ended with an error.
    Failed,
}

/// What a run is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectPhase {
    /// Pushes that have failed let go of what they held.
    #[default]
    FailedUploads,
    /// Closures expire.
    OldClosures,
    /// What nothing needs any more is condemned.
    Condemn,
    /// What has been condemned for long enough is deleted.
    Delete,
}

/// What a run has done so far; in a dry run, what it would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct CollectProgress {
    /// What it is at.
    pub phase: CollectPhase,
    /// Pushes that had failed.
    pub failed_uploads_deleted: u64,
    /// Closures that expired.
    pub old_closures_deleted: u64,
    /// Objects that were found to be garbage.
    pub objects_marked_for_deletion: u64,
    /// Objects that are not in the bucket any more.
    pub objects_deleted_after_grace_period: u64,
    /// Objects that S3 did not delete: the next run tries again.
    pub objects_failed_to_delete: u64,
    /// Garbage that was spared since somebody may be able to write it at this moment.
    pub objects_spared: u64,
    /// Bytes of the objects that were deleted.
    pub bytes_freed: u64,
    /// Bytes of the objects that were found to be garbage.
    pub bytes_marked: u64,
    /// The largest objects that would go: a dry run's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub largest: Vec<Garbage>,
}

/// One object that would go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// Its key.
    pub key: ObjectKey,
    /// A path whose narinfo it is, or whose NAR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_path: Option<String>,
    /// Bytes of it.
    pub bytes: u64,
}

/// Answer to `GET /api/v1/gc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectStatus {
    /// The run that is under way, or the last one. `None`: there was none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<Collection>,
    /// What the cache has.
    pub cache: CacheSize,
}

/// How much is in the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheSize {
    /// Objects, narinfos and listings included.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}
