//! What the niks3 client and server share: names, formats and the bodies of the API.
//!
//! Nothing here does I/O, waits or looks at a clock, so all of it is tested with plain values.

pub mod causes;
pub mod duration;
pub mod flags;
pub mod hash;
pub mod limits;
pub mod listing;
pub mod narinfo;
pub mod object_key;
pub mod plan;
pub mod s3_error;
pub mod signing;
pub mod store_path;
pub mod verdict;
pub mod wire;
