//! `POST /api/v1/uploads` and what follows it.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    hash::{BodyMd5, FileHash, NarHash},
    narinfo::ContentAddress,
    object_key::{ObjectKey, ObjectKeyError, RandomPart},
    signing::Signature,
    store_path::{StorePath, StorePathHash},
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
}

/// Answer to a plan: what is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanResponse {
    /// The upload that was opened. Absent: the closure was complete and has been committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<OpenUpload>,
    /// Paths whose NARs shall be sent, one for each NarHash that is missing.
    #[serde(default)]
    pub nars: Vec<u32>,
    /// Paths whose listings may be sent.
    #[serde(default)]
    pub listings: Vec<u32>,
    /// Paths that are in the cache with other contents than this plan says. They stay as they are.
    #[serde(default)]
    pub kept: Vec<KeptPath>,
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
    /// How listings are to be encoded before their URLs are asked for.
    #[serde(default)]
    pub metadata_encoding: MetadataEncoding,
}

/// How narinfos and listings lie in the bucket. Says nothing of NARs, which are always zstd and
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

/// Body of `POST /api/v1/uploads/{id}/urls`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UrlsRequest {
    /// What is ready to be sent.
    pub objects: Vec<ObjectSpec>,
}

/// An object that is ready to be sent, with the one body that its URL will be for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ObjectSpec {
    /// A compressed NAR.
    Nar {
        /// Hash of the NAR, uncompressed.
        nar_hash: NarHash,
        /// Bytes of the body.
        bytes: u64,
        /// MD5 of the body.
        md5: BodyMd5,
    },
    /// A listing.
    Listing {
        /// Of which path.
        path: StorePathHash,
        /// Bytes of the body.
        bytes: u64,
        /// MD5 of the body.
        md5: BodyMd5,
    },
}

/// Answer to [`UrlsRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlsResponse {
    /// One for each object of the request, in its order.
    pub objects: Vec<UrlAnswer>,
}

/// What to do about one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum UrlAnswer {
    /// Send it there.
    Put {
        /// Its key, to report it by.
        key: ObjectKey,
        /// Where to.
        url: PresignedUrl,
        /// What to send with it, all of it signed. `content-length` is among them.
        headers: BTreeMap<String, String>,
    },
    /// It is in the bucket already.
    Stored,
    /// Somebody else may be writing that key: leave it out this time (listings only).
    Busy,
}

/// A presigned URL: who has it may write that key, so its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PresignedUrl(pub String);

impl fmt::Debug for PresignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresignedUrl(…)")
    }
}

/// Body of `POST /api/v1/uploads/{id}/stored`: what has been sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoredRequest {
    /// Objects that S3 has taken.
    #[serde(default)]
    pub objects: Vec<StoredObject>,
    /// Paths of which there can be no listing: a file name in them is not UTF-8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_listing: Vec<StorePathHash>,
}

/// One object that S3 has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    /// The key that its URL was for.
    pub key: ObjectKey,
    /// SHA-256 of the body. A NAR needs it, other objects have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_hash: Option<FileHash>,
}

/// Answer to [`StoredRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredResponse {
    /// Objects that the server looked for and did not find as they were reported.
    #[serde(default)]
    pub missing: Vec<ObjectKey>,
}

/// Body of a 202 to `POST /api/v1/uploads/{id}/commit`: call again. 204 has no body: all is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitProgress {
    /// Narinfos of this upload that are in the bucket.
    pub published: u64,
    /// Narinfos that shall be.
    pub total: u64,
}
