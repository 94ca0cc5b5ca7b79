//! `/api/v1/pins` and `/api/v1/closures`.

use serde::{Deserialize, Serialize};

use crate::{
    pin_name::PinName,
    store_path::{StorePath, StorePathHash},
};

/// Body of `PUT /api/v1/pins/{name}`: creates the pin, or moves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRequest {
    /// A closure that was pushed: its root.
    pub path: StorePath,
}

/// A pin. Answer to `PUT /api/v1/pins/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its name.
    pub name: PinName,
    /// The closure that it keeps.
    pub path: StorePath,
    /// Seconds since 1970: when it was moved there, or made.
    pub moved_at: u64,
}

/// Answer to `GET /api/v1/pins?after=NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinsResponse {
    /// Pins by name, those after `after`.
    pub pins: Vec<Pin>,
    /// What to ask for next; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PinName>,
}

/// A closure. Answer to `GET /api/v1/closures/{hash}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// Its root.
    pub path: StorePath,
    /// Seconds since 1970: when it was pushed, last.
    pub pushed_at: u64,
    /// Pins that keep it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pinned_by: Vec<PinName>,
    /// Paths in it, the root included.
    pub paths: u64,
    /// Bytes of its NARs as they lie in the bucket, equal ones once.
    pub bytes: u64,
}

/// Answer to `GET /api/v1/closures?after=HASH`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosuresResponse {
    /// Closures by the hash part of their root, those after `after`.
    pub closures: Vec<Closure>,
    /// What to ask for next; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<StorePathHash>,
}
