//! Composing narinfos, once each, and publishing them.

use std::time::Duration;

use niks3_core::{
    hash::{FileHash, NarHash},
    narinfo::PathInfo,
};
use tokio_postgres::Row;

use super::{Connection, StoreError, Tx, Unpublished, read_text, texts::with_texts};

const NEXT_PATHS: &str = include_str!("sql/next_paths.sql");
const LOCK_OBJECTS: &str = include_str!("sql/lock_objects.sql");
const COMPOSABLE: &str = include_str!("sql/composable.sql");
const COMPOSE: &str = include_str!("sql/compose_narinfos.sql");
const TAKE_UNPUBLISHED: &str = include_str!("sql/take_unpublished.sql");
const MARK_DONE: &str = include_str!("sql/mark_done.sql");
const PROGRESS: &str = include_str!("sql/progress.sql");

/// A path that is not done yet, and what it waits for.
#[derive(Clone, Debug)]
pub struct NextPath {
    /// The row of its narinfo.
    pub id: i64,
    /// Its base name.
    pub store_path: String,
    /// Its narinfo is in the bucket.
    pub published: bool,
    /// What it is has been recorded.
    pub composed: bool,
    /// A NAR of it is in the bucket.
    pub has_nar: bool,
    /// Its references are published; `true` where it is composed itself.
    pub refs_published: bool,
    /// Nobody can write its narinfo at this moment.
    pub quiet: bool,
}

/// A path that can be composed: its NAR is stored, its references are published.
#[derive(Clone, Debug)]
pub struct Composable {
    /// The row of its narinfo.
    pub id: i64,
    /// The row of its NAR.
    pub nar_id: i64,
    /// What its narinfo will say.
    pub info: PathInfo,
}

/// A narinfo's text, to be recorded.
#[derive(Clone, Debug)]
pub struct Composed {
    /// The row of the narinfo.
    pub id: i64,
    /// The row of its NAR.
    pub nar_id: i64,
    /// The whole signed text.
    pub narinfo: String,
}

/// A text that was taken to be sent: one that is recorded in its place has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    /// Its row.
    pub(super) id: i64,
    /// Which text of it.
    pub(super) version: i64,
}

/// Up to `limit` paths of the upload that are not done, those first that others need.
///
/// # Errors
/// When the query fails.
pub async fn next_paths(
    tx: &Tx<'_>,
    upload: i64,
    limit: usize,
) -> Result<Vec<NextPath>, StoreError> {
    let rows = tx.rows("look at what is next", NEXT_PATHS, &[&upload, &(limit as i64)]).await?;
    let read = |row: &Row| NextPath {
        id: row.get("id"),
        store_path: row.get("store_path"),
        published: row.get("published"),
        composed: row.get("composed"),
        has_nar: row.get("has_nar"),
        refs_published: row.get("refs_published"),
        quiet: row.get("quiet"),
    };
    Ok(rows.iter().map(read).collect())
}

/// Locks these narinfos' rows, and answers what those of them will say that nobody has composed.
/// Those that another composer has in hand are left out. Inside the gate.
///
/// # Errors
/// When a query fails or a row cannot be read.
pub async fn lock_composable(
    tx: &Tx<'_>,
    upload: i64,
    ready: &[i64],
) -> Result<Vec<Composable>, StoreError> {
    let locked = tx.rows("lock narinfos", LOCK_OBJECTS, &[&ready]).await?;
    let locked: Vec<i64> = locked.iter().map(|row| row.get(0)).collect();
    // In a statement of its own: one that locks sees rows as they were before it waited.
    let rows = tx.rows("look at what can be composed", COMPOSABLE, &[&upload, &locked]).await?;
    rows.iter().map(read_composable).collect()
}

fn read_composable(row: &Row) -> Result<Composable, StoreError> {
    let file_hash: Option<Vec<u8>> = row.get("sha256");
    let file_hash = file_hash.and_then(|hash| hash.try_into().ok()).ok_or_else(|| {
        StoreError::Corrupt { what: "a NAR's FileHash", text: row.get("nar_key") }
    })?;
    let texts = |column: &str| {
        let text: String = row.get(column);
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let deriver: Option<String> = row.get("deriver");
    let ca: Option<String> = row.get("ca");
    let read_path = |path: &String| read_text("a store path", path);
    let info = PathInfo {
        path: read_path(&row.get("store_path"))?,
        nar: read_text("a NAR's key", row.get("nar_key"))?,
        file_hash: FileHash::new(file_hash),
        file_size: row.get::<_, i64>("nar_bytes") as u64,
        nar_hash: read_nar_hash(row)?,
        nar_size: row.get::<_, i64>("nar_size") as u64,
        references: texts("ref_paths").iter().map(read_path).collect::<Result<_, _>>()?,
        deriver: deriver.as_ref().map(read_path).transpose()?,
        signatures: texts("signatures")
            .iter()
            .map(|text| read_text("a signature", text))
            .collect::<Result<_, _>>()?,
        ca: ca.map(|ca| read_text("a content address", &ca)).transpose()?,
    };
    Ok(Composable { id: row.get("id"), nar_id: row.get("nar_id"), info })
}

fn read_nar_hash(row: &Row) -> Result<NarHash, StoreError> {
    let nix32: String = row.get("nar_hash");
    read_text("a NarHash", &format!("sha256:{nix32}"))
}

/// Records narinfos with their references: from here on this is what these paths are. In the
/// transaction that [locked](lock_composable) them.
///
/// # Errors
/// When the query fails.
pub async fn compose(tx: &Tx<'_>, upload: i64, composed: &[Composed]) -> Result<(), StoreError> {
    if composed.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = composed.iter().map(|narinfo| narinfo.id).collect();
    let nars: Vec<i64> = composed.iter().map(|narinfo| narinfo.nar_id).collect();
    let texts: Vec<&str> = composed.iter().map(|narinfo| narinfo.narinfo.as_str()).collect();
    tx.execute("compose narinfos", COMPOSE, &[&upload, &ids, &nars, &texts]).await.map(drop)
}

/// Those of these composed narinfos or attachments that are not in the bucket and that no other commit has in hand,
/// be it this upload or another that composed them. Records that somebody may write them for
/// `writable`: to be committed before they are sent.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn take_unpublished(
    tx: &Tx<'_>,
    composed: &[i64],
    writable: Duration,
) -> Result<Vec<Unpublished>, StoreError> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&composed, &writable.as_secs_f64()];
    let rows = tx.rows("take unpublished narinfos", TAKE_UNPUBLISHED, &params).await?;
    let fenced: Vec<_> = rows.iter().map(|row| (row.get("id"), row.get("at"))).collect();
    with_texts(tx, &fenced).await
}

/// Notes that these narinfos of the upload's paths are published; listings of the contents that
/// were composed become their references. Inside the gate.
///
/// # Errors
/// When the query fails.
pub async fn mark_done(tx: &Tx<'_>, upload: i64, published: &[i64]) -> Result<(), StoreError> {
    if published.is_empty() {
        return Ok(());
    }
    tx.execute("mark as done", MARK_DONE, &[&upload, &published]).await.map(drop)
}

/// How many of the upload's paths are done, and how many there are.
///
/// # Errors
/// When the query fails.
pub async fn progress(connection: &Connection, upload: i64) -> Result<(u64, u64), StoreError> {
    let rows = connection.rows("count what is done", PROGRESS, &[&upload]).await?;
    let count = |column: &str| rows.first().map_or(0, |row| row.get::<_, i64>(column)) as u64;
    Ok((count("published"), count("total")))
}
