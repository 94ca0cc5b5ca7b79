//! What loses its holder, and what nobody needs any more.

use std::time::Duration;

use super::{Connection, StoreError, Tx};

const FAIL_SILENT: &str = include_str!("sql/fail_silent_uploads.sql");
const ENDED: &str = include_str!("sql/ended_uploads.sql");
const FORGET_UPLOADS: &str = include_str!("sql/forget_uploads.sql");
const EXPIRE: &str = include_str!("sql/expire_closures.sql");
const TAKE_CANDIDATES: &str = include_str!("sql/take_candidates.sql");
const CONDEMN: &str = include_str!("sql/condemn.sql");

/// Above every object's id: where a collector begins.
pub const TOP: i64 = i64::MAX;

/// Marks up to `limit` open uploads as failed that gave no sign of life for `silent` and whose URLs
/// have all expired. What they hold is still to be [released](super::release). Answers how many.
///
/// # Errors
/// When the query fails.
pub async fn fail_silent_uploads(
    tx: &Tx<'_>,
    silent: Duration,
    limit: usize,
) -> Result<usize, StoreError> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&silent.as_secs_f64(), &(limit as i64)];
    Ok(tx.rows("fail silent uploads", FAIL_SILENT, &params).await?.len())
}

/// Up to `limit` uploads after `after` that have ended and of which something is left.
///
/// # Errors
/// When the query fails.
pub async fn ended_uploads(
    connection: &Connection,
    after: i64,
    limit: usize,
) -> Result<Vec<i64>, StoreError> {
    let rows = connection.rows("look for ended uploads", ENDED, &[&after, &(limit as i64)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Forgets up to `limit` uploads that ended before `age` and left nothing. Answers how many.
///
/// # Errors
/// When the query fails.
pub async fn forget_uploads(tx: &Tx<'_>, age: Duration, limit: usize) -> Result<usize, StoreError> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&age.as_secs_f64(), &(limit as i64)];
    Ok(tx.execute("forget ended uploads", FORGET_UPLOADS, &params).await? as usize)
}

/// Takes away that up to `limit` narinfos are closures: those last pushed before `pushed_before`,
/// seconds since 1970, that are not pinned. Their roots become candidates in the same statement. In
/// the gate, alone. Answers how many.
///
/// # Errors
/// When the query fails.
pub async fn expire_closures(
    tx: &Tx<'_>,
    pushed_before: f64,
    limit: usize,
) -> Result<usize, StoreError> {
    let rows = tx.rows("expire closures", EXPIRE, &[&pushed_before, &(limit as i64)]).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0)) as usize)
}

/// What one batch of candidates came to.
#[derive(Clone, Copy, Debug)]
pub struct Condemned {
    /// Below which candidate to go on.
    pub below: i64,
    /// How many were garbage.
    pub objects: u64,
    /// Bytes of those of them that are stored.
    pub bytes: u64,
}

/// Asks of up to `limit` candidates below `below` whether they are garbage, condemns those that are,
/// and makes what they refer to candidates. In the gate, alone. `None`: there is no candidate below.
///
/// # Errors
/// When a query fails.
pub async fn condemn(
    tx: &Tx<'_>,
    below: i64,
    limit: usize,
) -> Result<Option<Condemned>, StoreError> {
    let taken = tx.rows("take candidates", TAKE_CANDIDATES, &[&below, &(limit as i64)]).await?;
    let mut ids: Vec<i64> = taken.iter().map(|row| row.get(0)).collect();
    ids.sort_unstable();
    let Some(lowest) = ids.first().copied() else { return Ok(None) };
    let rows = tx.rows("condemn", CONDEMN, &[&ids]).await?;
    let row = rows.first().ok_or(StoreError::NoRow("condemn"))?;
    // Below the batch, or above that if it has made something there a candidate.
    let added: Option<i64> = row.get(2);
    let below = added.map_or(lowest, |added| lowest.max(added + 1));
    Ok(Some(Condemned {
        below,
        objects: row.get::<_, i64>(0) as u64,
        bytes: row.get::<_, i64>(1) as u64,
    }))
}
