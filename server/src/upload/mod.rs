//! Pushes, as the server sees them: plan, URLs, stored, commit.

mod abandon;
mod attach;
mod commit;
mod grant;
mod hold;
mod look;
mod multipart;
mod plan;
mod stored;
mod upstream;
mod urls;

use std::time::Duration;

use niks3_core::{
    narinfo::ComposeError,
    plan::PlanRefused,
    signing::{PublicKey, SigningKey},
};
use niks3_core::{object_key::ObjectKey, parts::MAX_PARTS, store_path::StoreDir};

use crate::{
    s3::{Bucket, S3Error},
    store::{MAX_OPEN_UPLOADS, MAX_PLANNED_PATHS, Store, StoreError},
    trust::{Distrust, Trust},
};

pub use abandon::{abandon, release_all};
pub use commit::{CommitAnswer, commit};
pub use hold::lapse_claims;
pub use look::{note_lost, verify};
pub use multipart::abort_ended;
pub use plan::{plan, random_part};
pub use stored::stored;
pub use urls::urls;

/// How long an upload lives without any call, beyond the last URL that it was given, at most. A client
/// that packs one huge NAR is silent for a while.
const IDLE_TIME: Duration = Duration::from_secs(60 * 60);

/// What the calls of a push work with.
pub struct Uploads {
    /// The database.
    pub store: Store,
    /// The bucket.
    pub bucket: Bucket,
    /// Each signs every narinfo.
    pub signing_keys: Vec<SigningKey>,
    /// Paths that one of these has signed are left to the cache whose key it is.
    pub upstream_keys: Vec<PublicKey>,
    /// The one store directory that this cache is for.
    pub store_dir: StoreDir,
    /// What was last found of whether database and bucket belong together.
    pub trust: Trust,
}

impl Uploads {
    /// How long an upload lives without a call, one that gave it no URL at least.
    fn idle_time(&self) -> Duration {
        let lifetime = self.bucket.times.url_lifetime;
        // In proportion, so that whoever sets short lifetimes sees failed pushes go soon.
        lifetime + IDLE_TIME.min(2 * lifetime)
    }
}

/// Who calls. An upload belongs to the caller who opened it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(pub String);

/// Why a call of a push was not carried out. Messages are for the person who pushes, except where
/// [`crate::error`] says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The plan is no closure, or too large.
    #[error(transparent)]
    Plan(#[from] PlanRefused),
    /// A NAR that the plan does not need.
    #[error("the upload's plan has no NAR {0} to send")]
    NotPlanned(String),
    /// A log that the plan does not have.
    #[error("the upload's plan has no log of {0} to send")]
    NotPlannedLog(String),
    /// A key that this upload was not given.
    #[error("{0} is not a key that this upload was given")]
    NotOwn(ObjectKey),
    /// The same object twice in one call.
    #[error("{0} is in the request twice")]
    Twice(String),
    /// Too many objects in one call.
    #[error("the request names {count} objects, the limit is {limit}")]
    TooMany {
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A body that is too large for what it is.
    #[error("{what} is too large: {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// What it is, and of what.
        what: String,
        /// Its size.
        bytes: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A part that no multipart upload can have.
    #[error("a multipart upload has parts 1 to {MAX_PARTS}, not {0}")]
    PartNumber(u16),
    /// Parts that make no object.
    #[error("the parts reported for {0} are not all of its parts, each once and in order")]
    Parts(ObjectKey),
    /// The store checks another checksum than the one that was sent.
    #[error("{0} was asked for with another checksum than this cache's S3 server checks")]
    OtherChecksum(String),
    /// A NAR was reported without the hash that its narinfo needs.
    #[error("{0} was reported as stored without its FileHash")]
    NoFileHash(ObjectKey),
    /// Too many uploads are open.
    #[error("there are {MAX_OPEN_UPLOADS} open uploads already; finish or give up some")]
    TooManyOpen,
    /// Too many paths are planned.
    #[error("open uploads have {MAX_PLANNED_PATHS} paths already; finish or give up some")]
    TooManyPlanned,
    /// Keys for ever more bodies of one NAR.
    #[error("the upload was given keys for too many bodies of one NAR")]
    TooManyBodies,
    /// Committed before everything was sent.
    #[error("the NAR of {0} is not in the bucket yet: send it and report it before the commit")]
    Incomplete(String),
    /// Something that was there at the plan is not any more.
    #[error("the cache has changed since this upload was planned; plan it again")]
    Stale,
    /// A narinfo cannot be composed.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// Whether database and bucket belong together is not known at this moment.
    #[error(transparent)]
    Distrust(#[from] Distrust),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket.
    #[error(transparent)]
    S3(#[from] S3Error),
}

impl UploadError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// Runs a transaction again while it meets what passes.
pub(crate) async fn retry<T, Fut>(transaction: impl FnMut() -> Fut) -> Result<T, UploadError>
where
    Fut: Future<Output = Result<T, UploadError>>,
{
    crate::store::retry(transaction, UploadError::is_transient).await
}
