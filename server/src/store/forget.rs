//! What an administrator wants gone.

use niks3_core::{object_key::ObjectKey, store_path::StorePathHash};

use super::{Connection, StoreError, Tx};

const FORGETTABLE: &str = include_str!("sql/forgettable.sql");
const FORGET: &str = include_str!("sql/forget_narinfos.sql");

/// A path that shall be forgotten, or that refers to one.
#[derive(Clone, Debug)]
pub struct Forgettable {
    /// The row of its narinfo.
    pub id: i64,
    /// Its base name, or its key where nobody knows that.
    pub name: String,
    /// It was named, rather than refers to one that was.
    pub asked: bool,
    /// An open push holds it.
    pub held: bool,
    /// A pin keeps it.
    pub pin: Option<String>,
}

/// These paths, as far as the cache knows them, and all that refer to them. In the gate, alone.
///
/// # Errors
/// When the query fails.
pub async fn forgettable(
    tx: &Tx<'_>,
    paths: &[StorePathHash],
) -> Result<Vec<Forgettable>, StoreError> {
    let keys: Vec<String> =
        paths.iter().map(|hash| ObjectKey::NarInfo(*hash).to_string()).collect();
    let rows = tx.rows("look for what shall be forgotten", FORGETTABLE, &[&keys]).await?;
    let read = |row: &tokio_postgres::Row| Forgettable {
        id: row.get("id"),
        name: row.get("name"),
        asked: row.get("asked"),
        held: row.get("held"),
        pin: row.get("pin"),
    };
    Ok(rows.iter().map(read).collect())
}

/// Makes garbage of narinfos that only each other refers to. In the gate, alone.
///
/// # Errors
/// When the query fails.
pub async fn forget_narinfos(tx: &Tx<'_>, ids: &[i64]) -> Result<(), StoreError> {
    tx.execute("forget narinfos", FORGET, &[&ids]).await.map(drop)
}

/// How many of these objects have rows, and how many of those something holds again.
///
/// # Errors
/// When the query fails.
pub async fn still_there(connection: &Connection, ids: &[i64]) -> Result<(i64, i64), StoreError> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE condemned_at IS NULL) FROM objects \
               WHERE id = ANY ($1)";
    let rows = connection.rows("count what is left", sql, &[&ids]).await?;
    Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
}
