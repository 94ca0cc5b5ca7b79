//! `POST /api/v1/uploads/{id}/urls` and `…/stored`: objects on their way into the bucket.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    hash::{BodyChecksum, FileHash, NarHash},
    object_key::ObjectKey,
    store_path::StorePathHash,
};

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
        /// Of the body.
        #[serde(flatten)]
        checksum: BodyChecksum,
    },
    /// A listing.
    Listing {
        /// Of which path.
        path: StorePathHash,
        /// Bytes of the body.
        bytes: u64,
        /// Of the body.
        #[serde(flatten)]
        checksum: BodyChecksum,
    },
    /// The build log of a path's deriver.
    Log {
        /// Of which path.
        path: StorePathHash,
        /// Bytes of the body.
        bytes: u64,
        /// Of the body.
        #[serde(flatten)]
        checksum: BodyChecksum,
    },
    /// A NAR that is sent while it is packed: its size is not known yet. Opens a multipart upload.
    LargeNar {
        /// Hash of the NAR, uncompressed.
        nar_hash: NarHash,
    },
    /// One part of a multipart upload that was opened for this upload.
    Part {
        /// The key that it was opened for.
        key: ObjectKey,
        /// From 1 to [`MAX_PARTS`](crate::parts::MAX_PARTS).
        number: u16,
        /// Bytes of the part.
        bytes: u64,
        /// Of the part.
        #[serde(flatten)]
        checksum: BodyChecksum,
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
    /// A multipart upload is open: ask for URLs of its parts.
    Multipart {
        /// Its key, to name and report it by.
        key: ObjectKey,
    },
    /// It is in the bucket already.
    Stored,
    /// Somebody else may be writing that key: leave it out this time (listings and logs only).
    Busy,
    /// That multipart upload is no more: another push may have sent the NAR. Ask for the NAR again.
    Gone,
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
    /// All parts of a multipart upload, for the server to complete it with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<StoredPart>,
}

/// One part that S3 has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPart {
    /// From 1 to [`MAX_PARTS`](crate::parts::MAX_PARTS).
    pub number: u16,
    /// Bytes of the part.
    pub bytes: u64,
    /// S3's answer to it: opaque.
    pub etag: String,
    /// Its checksum, as the URL was asked for.
    #[serde(flatten)]
    pub checksum: BodyChecksum,
}

/// Answer to [`StoredRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredResponse {
    /// Objects that the server looked for and did not find as they were reported.
    #[serde(default)]
    pub missing: Vec<ObjectKey>,
}
