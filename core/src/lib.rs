//! What the niks3 client and server share: names, formats and the bodies of the API.
//!
//! Nothing here does I/O, waits or looks at a clock, so all of it is tested with plain values. The
//! one exception is [`pace`], with the feature `tokio`: client and server both need it, and it should
//! not be written twice.

pub mod causes;
pub mod debug_info;
pub mod derivation;
pub mod duration;
pub mod flags;
pub mod hash;
pub mod limits;
pub mod listing;
pub mod narinfo;
pub mod object_key;
#[cfg(feature = "tokio")]
pub mod pace;
pub mod parts;
pub mod pin_name;
pub mod plan;
pub mod realisation;
pub mod resign;
pub mod s3_error;
pub mod signing;
pub mod store_path;
pub mod throttle;
pub mod verdict;
pub mod wire;
