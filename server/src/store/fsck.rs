//! What `niks3-server fsck` asks of the tables: first all of them at once, then rows by key, beside the
//! bucket.

use tokio_postgres::Row;

use super::{Connection, StoreError, Tx};

const BEGIN: &str = include_str!("sql/fsck_begin.sql");
const MARK: &str = include_str!("sql/fsck_mark.sql");
const NEEDED: &str = include_str!("sql/fsck_needed.sql");
const FORGOTTEN: &str = include_str!("sql/fsck_forgotten.sql");
const REFERENCES: &str = include_str!("sql/fsck_references.sql");
const HOLDERS: &str = include_str!("sql/fsck_holders.sql");
const NARINFOS: &str = include_str!("sql/fsck_narinfos.sql");
const NOT_COMPOSED: &str = include_str!("sql/fsck_not_composed.sql");
const NARS: &str = include_str!("sql/fsck_nars.sql");
const UNPUBLISHED: &str = include_str!("sql/fsck_unpublished.sql");
const ROWS: &str = include_str!("sql/fsck_rows.sql");
const ROWS_OF: &str = include_str!("sql/fsck_rows_of.sql");
const ABANDONED: &str = include_str!("sql/fsck_abandoned.sql");
const PINS: &str = include_str!("sql/fsck_pins.sql");
const PINS_OF: &str = include_str!("sql/fsck_pins_of.sql");

/// What the tables alone can show.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// Garbage that is needed.
    Needed,
    /// Neither needed nor garbage.
    Forgotten,
    /// References to or from nothing.
    References,
    /// Reasons to live of nothing.
    Holders,
    /// Texts of narinfos without their objects.
    Narinfos,
    /// Narinfos without their texts.
    NotComposed,
    /// Narinfos without their NARs.
    Nars,
    /// Narinfos without their references.
    Unpublished,
}

/// A row that should not be as it is.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// The object's key; empty where there is none.
    pub key: String,
    /// The object.
    pub id: i64,
    /// What is at the other end.
    pub other: Option<i64>,
}

/// An object's row, as far as the bucket can tell whether it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownObject {
    /// Its id.
    pub id: i64,
    /// Its key, which is one of ours unless somebody has meddled.
    pub key: String,
    /// Bytes, where they are known.
    pub bytes: Option<u64>,
    /// It is being deleted.
    pub claimed: bool,
    /// Since when it is stored, in microseconds since 1970: what was sent again is something else.
    pub stored: Option<i64>,
}

/// A pin's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPin {
    /// Its name.
    pub name: String,
    /// The closure. `None`: it is being deleted.
    pub object: Option<i64>,
    /// Its base name.
    pub store_path: Option<String>,
    /// The file shall be right, and nobody is writing it.
    pub in_sync: bool,
    /// When it was last moved.
    moved: i64,
}

/// Prepares a transaction to [`check`] in, from what is reachable now. It is not to be committed: it
/// changes nothing. Answers how many objects have rows.
///
/// # Errors
/// When a query fails.
pub async fn begin_checks(tx: &Tx<'_>) -> Result<u64, StoreError> {
    tx.batch("prepare to check", BEGIN).await?;
    tx.batch("mark what is reachable", MARK).await?;
    let rows = tx.rows("count objects", "SELECT count(*) FROM objects", &[]).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0)) as u64)
}

/// Up to `limit` of what one check finds, the oldest first.
///
/// # Errors
/// When the query fails.
pub async fn check(tx: &Tx<'_>, check: Check, limit: usize) -> Result<Vec<Wrong>, StoreError> {
    let (what, sql) = match check {
        Check::Needed => ("look for garbage that is needed", NEEDED),
        Check::Forgotten => ("look for what is forgotten", FORGOTTEN),
        Check::References => ("check references", REFERENCES),
        Check::Holders => ("check holders", HOLDERS),
        Check::Narinfos => ("check texts of narinfos", NARINFOS),
        Check::NotComposed => ("check narinfos", NOT_COMPOSED),
        Check::Nars => ("check NARs of narinfos", NARS),
        Check::Unpublished => ("check references of narinfos", UNPUBLISHED),
    };
    let rows = tx.rows(what, sql, &[&(limit as i64)]).await?;
    let wrong =
        |row: &Row| Wrong { key: row.get("key"), id: row.get("id"), other: row.get("other") };
    Ok(rows.iter().map(wrong).collect())
}

/// Up to `limit` objects whose keys come after `after`, in the order of keys.
///
/// # Errors
/// When the query fails.
pub async fn objects_after(
    connection: &Connection,
    after: &str,
    limit: usize,
) -> Result<Vec<KnownObject>, StoreError> {
    let rows = connection.rows("list objects", ROWS, &[&after, &(limit as i64)]).await?;
    Ok(rows.iter().map(object).collect())
}

/// The objects that have these keys.
///
/// # Errors
/// When the query fails.
pub async fn objects_of(
    connection: &Connection,
    keys: &[String],
) -> Result<Vec<KnownObject>, StoreError> {
    let rows = connection.rows("look objects up", ROWS_OF, &[&keys]).await?;
    Ok(rows.iter().map(object).collect())
}

/// Those of these narinfos that are not stored, not composed, and that nobody can write; with `fenced`, those
/// too that somebody may still be writing.
///
/// # Errors
/// When the query fails.
pub async fn abandoned_narinfos(
    connection: &Connection,
    ids: &[i64],
    fenced: bool,
) -> Result<Vec<i64>, StoreError> {
    let rows = connection.rows("look for abandoned narinfos", ABANDONED, &[&ids, &fenced]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Up to `limit` pins after `after`, in the order of names.
///
/// # Errors
/// When the query fails.
pub async fn pins_after(
    connection: &Connection,
    after: &str,
    limit: usize,
) -> Result<Vec<KnownPin>, StoreError> {
    let rows = connection.rows("list pins", PINS, &[&after, &(limit as i64)]).await?;
    Ok(rows.iter().map(pin).collect())
}

/// The pins that have these names.
///
/// # Errors
/// When the query fails.
pub async fn pins_named(
    connection: &Connection,
    names: &[String],
) -> Result<Vec<KnownPin>, StoreError> {
    let rows = connection.rows("look pins up", PINS_OF, &[&names]).await?;
    Ok(rows.iter().map(pin).collect())
}

fn object(row: &Row) -> KnownObject {
    KnownObject {
        id: row.get("id"),
        key: row.get("key"),
        bytes: row.get::<_, Option<i64>>("size").map(|bytes| bytes as u64),
        claimed: row.get("claimed"),
        stored: row.get("stored"),
    }
}

fn pin(row: &Row) -> KnownPin {
    KnownPin {
        name: row.get("name"),
        object: row.get("object_id"),
        store_path: row.get("store_path"),
        in_sync: row.get("in_sync"),
        moved: row.get("moved"),
    }
}
