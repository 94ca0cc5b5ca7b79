//! `POST /api/v1/verify`: is in the bucket what the database says?

use serde::{Deserialize, Serialize};

use crate::{object_key::ObjectKey, store_path::StorePathHash};

/// Body of `POST /api/v1/verify`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// Paths whose narinfos, NARs and listings are looked for, up to
    /// [`MAX_OBJECTS_PER_CALL`](crate::limits::MAX_OBJECTS_PER_CALL).
    pub paths: Vec<StorePathHash>,
}

/// Answer to [`VerifyRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyResponse {
    /// How many objects were looked for.
    pub looked_for: u64,
    /// Those that are not there as they should be. They count as missing from now on, so that a
    /// push sends them again.
    #[serde(default)]
    pub lost: Vec<ObjectKey>,
}
