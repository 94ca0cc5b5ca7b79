//! Closures as people look at them: what was pushed, and how large it is.

use std::time::SystemTime;

use niks3_core::{
    object_key::ObjectKey,
    pin_name::PinName,
    store_path::{StorePath, StorePathHash},
};
use tokio_postgres::{Row, types::ToSql};

use super::{Connection, StoreError, Tx, pins::seconds, read_text};

const LIST: &str = include_str!("sql/list_closures.sql");
const FIND: &str = include_str!("sql/find_closure.sql");
const COUNT: &str = include_str!("sql/count_closure.sql");
const EXPIRE: &str = include_str!("sql/expire_closure.sql");

/// A closure.
#[derive(Clone, Debug)]
pub struct PushedClosure {
    /// The row of its root's narinfo.
    pub id: i64,
    /// The hash part of its root.
    pub hash: StorePathHash,
    /// Its root. `None`: that has lost its NAR, and nobody knows its name until it is pushed anew.
    pub path: Option<StorePath>,
    /// Seconds since 1970: when it was pushed, last.
    pub pushed_at: u64,
    /// The same, to the microsecond.
    pushed: SystemTime,
    /// Pins that keep it.
    pub pinned_by: Vec<PinName>,
    /// How large it is, if that has been counted.
    pub size: Option<ClosureSize>,
}

/// How large a closure is.
#[derive(Clone, Copy, Debug)]
pub struct ClosureSize {
    /// Paths in it.
    pub paths: u64,
    /// Bytes of its NARs.
    pub bytes: u64,
}

/// Up to `limit` closures by hash, those after `after`.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn list_closures(
    connection: &Connection,
    after: Option<StorePathHash>,
    limit: usize,
) -> Result<Vec<PushedClosure>, StoreError> {
    let after = after.map(|hash| ObjectKey::NarInfo(hash).to_string()).unwrap_or_default();
    let params: [&(dyn ToSql + Sync); 2] = [&after, &(limit as i64)];
    connection.rows("list closures", LIST, &params).await?.iter().map(read).collect()
}

/// The closure with this root.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn find_closure(
    connection: &Connection,
    root: StorePathHash,
) -> Result<Option<PushedClosure>, StoreError> {
    let key = ObjectKey::NarInfo(root).to_string();
    connection.rows("find a closure", FIND, &[&key]).await?.first().map(read).transpose()
}

/// Counts a closure, and keeps the result until the next push of it: its cost follows the closure.
/// What it has lost is left out, and then nothing is kept.
///
/// # Errors
/// When the query fails.
pub async fn count_closure(
    connection: &Connection,
    closure: &PushedClosure,
) -> Result<ClosureSize, StoreError> {
    let params: [&(dyn ToSql + Sync); 2] = [&closure.id, &closure.pushed];
    let rows = connection.rows("count a closure", COUNT, &params).await?;
    let count = |column: &str| rows.first().map_or(0, |row| row.get::<_, i64>(column)) as u64;
    Ok(ClosureSize { paths: count("paths"), bytes: count("bytes") })
}

/// The row of the closure with this root.
///
/// # Errors
/// When the query fails.
pub async fn closure_id(tx: &Tx<'_>, root: StorePathHash) -> Result<Option<i64>, StoreError> {
    let key = ObjectKey::NarInfo(root).to_string();
    let sql = "SELECT o.id FROM objects o WHERE o.key = $1 \
               AND (SELECT true FROM closures c WHERE c.object_id = o.id LIMIT 1)";
    Ok(tx.rows("look up a closure", sql, &[&key]).await?.first().map(|row| row.get(0)))
}

/// Ends a closure: what nothing else needs of it is garbage. Alone in the gate, and not while it is
/// pinned.
///
/// # Errors
/// When the query fails.
pub async fn expire_closure(tx: &Tx<'_>, closure: i64) -> Result<(), StoreError> {
    tx.execute("expire a closure", EXPIRE, &[&closure]).await.map(drop)
}

fn read(row: &Row) -> Result<PushedClosure, StoreError> {
    let key: &str = row.get("key");
    let ObjectKey::NarInfo(hash) = read_text("a narinfo's key", key)? else {
        return Err(StoreError::Corrupt { what: "a closure", text: key.to_owned() });
    };
    let path: Option<&str> = row.get("store_path");
    let pins: Vec<&str> = row.get("pinned_by");
    let (paths, bytes): (Option<i64>, Option<i64>) = (row.get("paths"), row.get("bytes"));
    let size = paths.zip(bytes);
    Ok(PushedClosure {
        id: row.get("object_id"),
        hash,
        path: path.map(|path| read_text("a store path", path)).transpose()?,
        pushed_at: seconds(row, "pushed_at"),
        pushed: row.get("pushed_at"),
        pinned_by: pins
            .iter()
            .map(|pin| read_text("a pin's name", pin))
            .collect::<Result<_, _>>()?,
        size: size.map(|(paths, bytes)| ClosureSize { paths: paths as u64, bytes: bytes as u64 }),
    })
}
