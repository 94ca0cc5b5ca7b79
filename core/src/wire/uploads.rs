//! `POST /api/v1/uploads` and `…/commit`: a push from its plan to its end.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    debug_info::BuildId,
    hash::{ChecksumAlgorithm, NarHash},
    narinfo::ContentAddress,
    object_key::{ObjectKeyError, RandomPart},
    realisation::OutputId,
    signing::{PublicKey, Signature},
    store_path::StorePath,
};

/// Body of `POST /api/v1/uploads`: a closure that shall be in the cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanRequest {
    /// The store directory that the paths lie in, such as `/nix/store`.
    pub store_dir: String,
    /// What the person asked for, as indexes into `paths`.
    pub roots: Vec<u32>,
    /// The roots and all that they need, each once, in any order.
    pub paths: Vec<PlannedPath>,
    /// Only say what is missing: nothing is opened, held or committed. `--dry-run`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Paths that one of these has signed are left to the cache whose key it is, beside those of the
    /// server's own keys. `--upstream-key`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstream_keys: Vec<PublicKey>,
}

/// One store path of a plan, as the store database has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedPath {
    /// Its base name.
    pub path: StorePath,
    /// Hash of its NAR.
    pub nar_hash: NarHash,
    /// Bytes of its NAR, at least 1.
    pub nar_size: u64,
    /// Its references as indexes into the plan's paths; its own where it refers to itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<u32>,
    /// What built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deriver: Option<StorePath>,
    /// What content-addresses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<ContentAddress>,
    /// Signatures that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
    /// Whether there is a build log of its deriver.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// The outputs of derivations that it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub realisations: Vec<PlannedRealisation>,
    /// Build ids of the debug files in it that shall be found. `--index-debug-info`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub debug_info: Vec<BuildId>,
}

/// That a planned path is an output of a derivation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRealisation {
    /// Which output.
    pub id: OutputId,
    /// The outputs that it was built with and refers to, and what they are, as Nix up to 2.26 records
    /// them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dependencies: BTreeMap<OutputId, StorePath>,
    /// Signatures of this statement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
}

/// Answer to a plan: what is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanResponse {
    /// The upload that was opened. Absent: the closure was complete and has been committed, or the
    /// plan was a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<OpenUpload>,
    /// Paths whose NARs shall be sent, one for each NarHash that is missing.
    #[serde(default)]
    pub nars: Vec<u32>,
    /// Paths whose listings may be sent.
    #[serde(default)]
    pub listings: Vec<u32>,
    /// Paths of whose derivers the build logs may be sent, one for each deriver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<u32>,
    /// How many paths are left to other caches, which have signed them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub external: u64,
    /// Paths that are in the cache with other contents than this plan says. They stay as they are.
    #[serde(default)]
    pub kept: Vec<KeptPath>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What an upload is called: random, so that nobody can guess it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadId(RandomPart);

impl UploadId {
    /// From random bytes; the caller brings the randomness.
    #[must_use]
    pub fn from_random(bytes: [u8; 24]) -> Self {
        Self(RandomPart::from_random(bytes))
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for UploadId {
    type Err = ObjectKeyError;

    fn from_str(text: &str) -> Result<Self, ObjectKeyError> {
        text.parse().map(Self)
    }
}

text_serde!(UploadId);

/// See [`PlanResponse::upload`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenUpload {
    /// Random; whoever knows it and is its caller may go on with it.
    pub id: UploadId,
    /// Until when it lives without another call, in seconds since 1970 by the database's clock.
    pub expires_at: u64,
    /// How listings and logs are to be encoded before their URLs are asked for.
    #[serde(default)]
    pub metadata_encoding: MetadataEncoding,
    /// The checksum that URLs are to be asked for with: the one that the S3 server checks.
    #[serde(default, skip_serializing_if = "ChecksumAlgorithm::is_default")]
    pub checksum: ChecksumAlgorithm,
}

/// How metadata (narinfos, listings, logs, realisations) lies in the bucket. Says nothing of NARs, which are always zstd and
/// never have a `Content-Encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetadataEncoding {
    /// Compressed, with `Content-Encoding: zstd`.
    #[default]
    Zstd,
    /// As they are: for stores that drop the header, such as Backblaze B2 without a CDN.
    None,
}

/// See [`PlanResponse::kept`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPath {
    /// Index into the plan's paths.
    pub path: u32,
    /// The hash of the contents that the cache has.
    pub nar_hash: NarHash,
}

/// Body of a 202 to `POST /api/v1/uploads/{id}/commit`: call again. 204 has no body: all is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitProgress {
    /// Narinfos of this upload that are in the bucket.
    pub published: u64,
    /// Narinfos that shall be.
    pub total: u64,
}
