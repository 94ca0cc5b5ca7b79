//! The bodies of the API, written once for both sides. `core/tests/golden/` pins their JSON.
//!
//! Old clients meet new servers and the other way round, so a field that came later has a default.

/// Serde for a type that is written as its `Display` text and read by its `FromStr`.
macro_rules! text_serde {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text =
                    <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_serde;

mod error;
mod gc;
mod objects;
mod pins;
mod uploads;
mod verify;

pub use error::ErrorBody;
pub use gc::{
    CacheSize, CollectPhase, CollectProgress, CollectRequest, CollectState, CollectStatus,
    Collection, Garbage,
};
pub use objects::{
    ObjectSpec, PresignedUrl, StoredObject, StoredPart, StoredRequest, StoredResponse, UrlAnswer,
    UrlsRequest, UrlsResponse,
};
pub use pins::{Closure, ClosuresResponse, Pin, PinRequest, PinsResponse};
pub use uploads::{
    CommitProgress, KeptPath, MetadataEncoding, OpenUpload, PlanRequest, PlanResponse, PlannedPath,
    PlannedRealisation, UploadId,
};
pub use verify::{VerifyRequest, VerifyResponse};
