//! Garbage collection: what failed and what is old lets go, what nothing needs is condemned, and what
//! has been condemned for long enough is deleted. `docs/gc.md` says why it is safe.
//!
//! All of it can be cut off anywhere: what is still to be done is in the database.

mod clock;
mod condemn;
mod expire;
mod forget;
mod preview;
mod run;
mod sweep;
mod task;
mod turn;

use std::time::Duration;

use crate::{store::StoreError, trust::Distrust, upload::UploadError};

pub use forget::{ForgetError, forget};
pub use task::{StartError, start, status};

impl CollectError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// Why a collection ended early. Messages are for the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Letting go of failed uploads.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// Database and bucket do not fit each other.
    #[error(transparent)]
    Distrust(#[from] Distrust),
    /// The clocks.
    #[error(
        "the clocks of the database and of S3 are {apart:?} apart; URLs end by the one and are waited \
         for by the other, so nothing is collected beyond {limit:?} (a third of --s3-slack): set the \
         clocks right"
    )]
    Clocks {
        /// How far apart they are.
        apart: Duration,
        /// How far they may be.
        limit: Duration,
    },
    /// S3 does not say what time it is.
    #[error("S3 answers without a Date, so nobody knows when its URLs end: nothing is collected")]
    NoDate,
    /// S3 cannot be asked.
    #[error(transparent)]
    S3(#[from] crate::s3::S3Error),
    /// The session that has the collection's lock.
    #[error("the database session that keeps others from collecting was lost; start it again")]
    LockLost(#[source] StoreError),
}
