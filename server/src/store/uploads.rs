//! Uploads: pushes that are under way.

use std::time::Duration;

use niks3_core::wire::UploadId;

use super::{StoreError, Tx, UploadGone};

/// Uploads that one caller may have open at once: a thousand CI jobs.
pub const MAX_OPEN_UPLOADS: i64 = 1000;

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
    /// Never [`UploadState::Failed`].
    pub state: UploadState,
    /// Until when it lives without another call: seconds since 1970, the database's clock.
    pub expires_at: u64,
    /// Narinfos that will be its closures.
    pub roots: Vec<i64>,
}

/// How many uploads of `caller` are open and not yet expired.
///
/// # Errors
/// When the query fails.
pub async fn count_open(tx: &Tx<'_>, caller: &str) -> Result<i64, StoreError> {
    let sql = "SELECT count(*) FROM uploads WHERE caller = $1 AND state = 0 AND expires_at > now()";
    let rows = tx.rows("count open uploads", sql, &[&caller]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// Opens an upload that lives for `lifetime` without another call.
///
/// # Errors
/// When the query fails.
pub async fn open(
    tx: &Tx<'_>,
    id: &UploadId,
    caller: &str,
    lifetime: Duration,
) -> Result<Upload, StoreError> {
    let rows = tx
        .rows("open an upload", OPEN, &[&id.to_string(), &caller, &lifetime.as_secs_f64()])
        .await?;
    let row = rows.first().ok_or(UploadGone::Unknown)?;
    Ok(Upload {
        number: row.get(0),
        state: UploadState::Open,
        expires_at: seconds(row.get(1)),
        roots: Vec::new(),
    })
}

/// Locks the upload's row for this transaction and moves `expires_at` forward to at least
/// `lifetime` from now. Before the gate, where waiting for another call of the same upload holds
/// up nobody else.
///
/// # Errors
/// [`UploadGone`] when there is none of that id and caller, or it failed.
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
        _ => return Err(UploadGone::Failed.into()),
    };
    let expires_at = seconds(row.get(2));
    Ok(Upload { number: row.get(0), state, expires_at, roots: row.get(3) })
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
