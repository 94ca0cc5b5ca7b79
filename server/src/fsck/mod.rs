//! `niks3-server fsck`: is everything as it shall be? Looks, and changes nothing but with `--repair`.
//!
//! The tables are looked at in one snapshot, so what happens meanwhile does not matter. The bucket has no
//! snapshots: what it seems to be wrong with is looked at again, one by one, before it is said.

mod adopt;
mod bucket;
mod confirm;
mod kind;
mod pins;
mod repair;
mod show;
mod tables;
mod texts;
mod unpublish;

use serde::Serialize;

use crate::{
    s3::S3Error,
    store::StoreError,
    trust::Distrust,
    upload::{UploadError, Uploads},
};

pub use kind::Kind;
pub use repair::{Repaired, repair};

/// Findings that are kept. A cache that has more is not repaired by looking at each of them.
pub const MAX_FINDINGS: usize = 1_000_000;

/// Why nobody knows whether all is well.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// The bucket's listing.
    #[error(
        "the bucket lists {key:?} after {before:?}, not in the order of bytes, so it cannot be compared \
         with the database"
    )]
    Order {
        /// What came before.
        before: String,
        /// What came too late.
        key: String,
    },
    /// A transaction of a repair.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// Leaving a new generation behind.
    #[error(transparent)]
    Distrust(#[from] Distrust),
    /// Somebody else has the collection's lock.
    #[error("garbage collection or another repair is under way; wait for it to end")]
    Busy,
}

/// `--s3`, `--repair`, `--json`
#[derive(Clone, Copy, Debug)]
pub struct FsckOptions {
    /// Look at the bucket too.
    pub s3: bool,
    /// Repair what is found.
    pub repair: bool,
    /// A reference that is not in the bucket is another cache's.
    pub external: bool,
    /// Print one JSON object.
    pub json: bool,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// There is more than [`MAX_FINDINGS`].
    pub more: bool,
    /// Objects that the database knows.
    pub objects: u64,
    /// Objects of ours in the bucket. `None`: it was not looked at.
    pub in_bucket: Option<u64>,
    /// Keys in the bucket that are not ours: nothing is wrong with them.
    pub foreign: u64,
    /// What was repaired before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<Repaired>,
}

/// One thing that is not as it shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// The object's key; empty where it is not known.
    pub key: String,
    /// The object's row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// The other end of a reference, or the upload that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<i64>,
}

/// Looks at the tables, and at the bucket too if `s3` is set.
///
/// # Errors
/// When database or bucket cannot be asked.
pub async fn report(cx: &Uploads, s3: bool) -> Result<Report, FsckError> {
    report_with(cx, s3, false).await
}

/// The same. With `fenced`, narinfos that nobody knows what they say are reported too while somebody may still be
/// writing them: until they are adopted, nothing keeps their NARs.
async fn report_with(cx: &Uploads, s3: bool, fenced: bool) -> Result<Report, FsckError> {
    let mut report = Report::default();
    tables::check(&cx.store, &mut report).await?;
    if s3 {
        bucket::check(cx, fenced, &mut report).await?;
        pins::check(cx, &mut report).await?;
    }
    Ok(report)
}

impl Report {
    /// How many findings there is room for.
    fn room(&self) -> usize {
        MAX_FINDINGS - self.findings.len()
    }

    /// Adds what there is room for.
    fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        let mut findings = findings.into_iter();
        let room = self.room();
        self.findings.extend(findings.by_ref().take(room));
        self.more |= findings.next().is_some();
    }
}

impl Finding {
    /// About an object that has a row.
    fn of_row(kind: Kind, key: &str, id: i64) -> Self {
        Self { kind, key: key.to_owned(), id: Some(id), other: None }
    }

    /// About a key that has none.
    fn of_key(kind: Kind, key: &str) -> Self {
        Self { kind, key: key.to_owned(), id: None, other: None }
    }
}
