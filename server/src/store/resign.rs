//! Other signatures for what is recorded, and the list of what the bucket may not have yet of it.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::{
    RecordedText, SessionLock, Store, StoreError, Token, Tx, Unpublished,
    texts::{read_recorded, with_texts},
};

const SIGNED_AFTER: &str = include_str!("sql/signed_after.sql");
const RECORD: &str = include_str!("sql/record_resigned.sql");
const TAKE: &str = include_str!("sql/take_resigned.sql");
const MARK: &str = include_str!("sql/mark_resigned.sql");

/// The lock's key among advisory locks: "niks3sig" in ASCII.
const RESIGN_LOCK: i64 = 0x6e69_6b73_3373_6967;

/// Takes the lock that keeps two runs apart. `None`: there is one. Nothing rests on it: two of them would only
/// do each other's work.
///
/// # Errors
/// When the database cannot be asked.
pub async fn resign_lock(store: &Store) -> Result<Option<SessionLock>, StoreError> {
    SessionLock::try_take(store, RESIGN_LOCK).await
}

/// What is recorded next after a row's id, and the last row that was looked at; `None`: there are no more.
#[derive(Clone, Debug)]
pub struct SignedPage {
    /// Narinfos and realisations.
    pub texts: Vec<RecordedText>,
    /// Where the next page begins.
    pub last: Option<i64>,
}

/// A text with other signatures.
#[derive(Clone, Debug)]
pub struct Resigned {
    /// Its row.
    pub id: i64,
    /// As it was read.
    pub before: String,
    /// As it shall be.
    pub after: String,
}

/// The next narinfos and realisations after row `after`, `limit` at most.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn signed_after(tx: &Tx<'_>, after: i64, limit: usize) -> Result<SignedPage, StoreError> {
    let params: [&(dyn ToSql + Sync); 2] = [&after, &(limit as i64)];
    let rows = tx.rows("look for signed texts", SIGNED_AFTER, &params).await?;
    let signed = rows.iter().filter(|row| row.get("signed"));
    Ok(SignedPage {
        texts: signed.map(read_recorded).collect::<Result<_, _>>()?,
        last: rows.last().map(|row| row.get("id")),
    })
}

/// Records texts with other signatures, where nobody can be writing the old ones; those that are in the bucket
/// are to be sent. Answers which were recorded. Inside the gate.
///
/// # Errors
/// When the query fails.
pub async fn record_resigned(tx: &Tx<'_>, resigned: &[Resigned]) -> Result<Vec<i64>, StoreError> {
    let ids: Vec<i64> = resigned.iter().map(|one| one.id).collect();
    let before: Vec<&str> = resigned.iter().map(|one| one.before.as_str()).collect();
    let after: Vec<&str> = resigned.iter().map(|one| one.after.as_str()).collect();
    let rows = tx.rows("record signatures", RECORD, &[&ids, &before, &after]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What was signed anew and is to be sent: up to `limit` after row `after`, and the last row that was looked
/// at, or `None` when there are no more. Records that somebody may write them for `writable`: to be committed
/// before they are sent. Inside the gate.
///
/// # Errors
/// When a query fails or a row cannot be read.
pub async fn take_resigned(
    tx: &Tx<'_>,
    after: i64,
    limit: usize,
    writable: Duration,
) -> Result<(Vec<Unpublished>, Option<i64>), StoreError> {
    let params: [&(dyn ToSql + Sync); 3] = [&after, &(limit as i64), &writable.as_secs_f64()];
    let rows = tx.rows("take what was signed anew", TAKE, &params).await?;
    let last = rows.last().map(|row| row.get("id"));
    let fenced: Vec<(i64, f64)> = rows
        .iter()
        .filter_map(|row| Some((row.get("id"), row.get::<_, Option<_>>("at")?)))
        .collect();
    Ok((with_texts(tx, &fenced).await?, last))
}

/// Notes that the bucket has what is recorded of these. Inside the gate.
///
/// # Errors
/// When the query fails.
pub async fn mark_resigned(tx: &Tx<'_>, sent: &[Token]) -> Result<(), StoreError> {
    let ids: Vec<i64> = sent.iter().map(|token| token.id).collect();
    let versions: Vec<i64> = sent.iter().map(|token| token.version).collect();
    tx.execute("note what was sent", MARK, &[&ids, &versions]).await.map(drop)
}
