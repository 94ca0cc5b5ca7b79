//! Uploads: pushes that are under way.

use std::time::Duration;

use niks3_core::wire::UploadId;

use super::{StoreError, Tx, UploadGone};

/// Uploads that one caller may have open at once: a thousand CI jobs.
pub const MAX_OPEN_UPLOADS: i64 = 1000;

/// Paths that all open uploads of one caller may have together: a hundred closures of the largest
/// kind, and some gigabytes of rows.
pub const MAX_PLANNED_PATHS: i64 = 10_000_000;

const OPEN: &str = include_str!("sql/open_upload.sql");
const LOCK: &str = include_str!("sql/lock_upload.sql");

/// What has become of an upload. Numbers are those in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum UploadState {
    /// Under way.
    Open = 0,
    /// Its closures are committed.
    Committed = 1,
    /// Given up, or silent for too long.
    Failed = 2,
}

/// An upload, its row locked by the transaction that read it.
#[derive(Clone, Debug)]
pub struct Upload {
    /// What other rows call it.
    pub number: i64,
    /// What has become of it.
    pub state: UploadState,
    /// Until when it lives without another call: seconds since 1970, the database's clock.
    pub expires_at: u64,
}

/// How many uploads of `caller` are open and not yet expired, and how many paths they have.
///
/// # Errors
/// When the query fails.
pub async fn open_uploads(tx: &Tx<'_>, caller: &str) -> Result<(i64, i64), StoreError> {
    let sql = "SELECT count(*), coalesce(sum(paths), 0)::bigint FROM uploads \
               WHERE caller = $1 AND state = 0 AND expires_at > now()";
    let rows = tx.rows("count open uploads", sql, &[&caller]).await?;
    Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
}

/// Opens an upload that lives for `lifetime` without another call. Repeating it is no error.
///
/// # Errors
/// When the query fails, or the id is another caller's.
pub async fn open(
    tx: &Tx<'_>,
    id: &UploadId,
    caller: &str,
    lifetime: Duration,
    paths: usize,
) -> Result<Upload, StoreError> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
        [&id.to_string(), &caller, &lifetime.as_secs_f64(), &(paths as i32)];
    let rows = tx.rows("open an upload", OPEN, &params).await?;
    let row = rows.first().ok_or(UploadGone::Unknown)?;
    let expires_at = seconds(row.get(1));
    Ok(Upload { number: row.get(0), state: UploadState::Open, expires_at })
}

/// Locks the upload's row for this transaction and moves `expires_at` forward to at least
/// `lifetime` from now. Before the gate, where waiting for another call of the same upload holds
/// up nobody else.
///
/// # Errors
/// [`UploadGone::Unknown`] when there is none of that id and caller.
pub async fn lock(
    tx: &Tx<'_>,
    id: &UploadId,
    caller: &str,
    lifetime: Duration,
) -> Result<Upload, StoreError> {
    let rows = tx
        .rows("lock an upload", LOCK, &[&id.to_string(), &caller, &lifetime.as_secs_f64()])
        .await?;
    let row = rows.first().ok_or(UploadGone::Unknown)?;
    let state = match row.get::<_, i16>(1) {
        0 => UploadState::Open,
        1 => UploadState::Committed,
        _ => UploadState::Failed,
    };
    let expires_at = seconds(row.get(2));
    Ok(Upload { number: row.get(0), state, expires_at })
}

impl Upload {
    /// The upload, if it can be gone on with.
    ///
    /// # Errors
    /// When it failed or is committed: what it held is let go.
    pub fn if_open(self) -> Result<Self, StoreError> {
        match self.state {
            UploadState::Open => Ok(self),
            UploadState::Committed | UploadState::Failed => Err(UploadGone::Failed.into()),
        }
    }
}

/// Which narinfos shall be closures.
///
/// # Errors
/// When the query fails.
pub async fn roots_of(tx: &Tx<'_>, upload: i64) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT roots FROM uploads WHERE number = $1";
    let rows = tx.rows("look up an upload's roots", sql, &[&upload]).await?;
    Ok(rows.first().map_or_else(Vec::new, |row| row.get(0)))
}

/// Says which narinfos shall be closures.
///
/// # Errors
/// When the query fails.
pub async fn set_roots(tx: &Tx<'_>, upload: i64, roots: &[i64]) -> Result<(), StoreError> {
    let sql = "UPDATE uploads SET roots = $2 WHERE number = $1";
    tx.execute("set roots", sql, &[&upload, &roots]).await.map(drop)
}

/// Ends an open upload. Its holds are still there: see [`super::release`].
///
/// # Errors
/// When the query fails.
pub async fn finish(tx: &Tx<'_>, upload: i64, state: UploadState) -> Result<(), StoreError> {
    let sql = "UPDATE uploads SET state = $2 WHERE number = $1";
    tx.execute("finish an upload", sql, &[&upload, &(state as i16)]).await.map(drop)
}

fn seconds(epoch: f64) -> u64 {
    epoch.max(0.0) as u64
}
