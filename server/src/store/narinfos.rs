//! Composing narinfos, once each, and publishing them.

use std::time::Duration;

use niks3_core::{
    hash::{FileHash, NarHash},
    narinfo::PathInfo,
    object_key::ObjectKey,
};
use tokio_postgres::Row;

use super::{StoreError, Tx, read_text};

const READY: &str = include_str!("sql/ready_to_compose.sql");
const COMPOSE: &str = include_str!("sql/compose_narinfos.sql");
const TAKE_UNPUBLISHED: &str = include_str!("sql/take_unpublished.sql");
const REMAINING: &str = include_str!("sql/remaining.sql");
const ATTACH_LISTINGS: &str = include_str!("sql/attach_listings.sql");

/// A path that can be composed: its NAR is stored, its references are published.
#[derive(Clone, Debug)]
pub struct Ready {
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

/// A narinfo that is composed and not yet in the bucket.
#[derive(Clone, Debug)]
pub struct Unpublished {
    /// Its row.
    pub id: i64,
    /// Its key.
    pub key: ObjectKey,
    /// Its recorded text.
    pub narinfo: String,
}

/// What is still to be done before an upload can be committed.
#[derive(Clone, Debug, Default)]
pub struct Remaining {
    /// Narinfos of this upload that are published.
    pub published: u64,
    /// Narinfos that shall be.
    pub total: u64,
    /// Paths of which no NAR is stored.
    pub without_nar: u64,
    /// One of them.
    pub example: Option<String>,
}

/// Up to `limit` paths of the upload that can be composed, their rows locked; those that another
/// composer has in hand are left out. Inside the gate.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn ready(tx: &Tx<'_>, upload: i64, limit: usize) -> Result<Vec<Ready>, StoreError> {
    let rows = tx.rows("find what can be composed", READY, &[&upload, &(limit as i64)]).await?;
    rows.iter().map(read_ready).collect()
}

fn read_ready(row: &Row) -> Result<Ready, StoreError> {
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
    Ok(Ready { id: row.get("id"), nar_id: row.get("nar_id"), info })
}

fn read_nar_hash(row: &Row) -> Result<NarHash, StoreError> {
    let nix32: String = row.get("nar_hash");
    read_text("a NarHash", &format!("sha256:{nix32}"))
}

/// Records narinfos with their references: from here on this is what these paths are. In the
/// transaction that found them [`ready`].
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

/// Up to `limit` composed narinfos of the upload that are not in the bucket yet, be it this upload
/// or another that composed them. Records that somebody may write them for `writable` from now:
/// to be committed before they are sent.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn take_unpublished(
    tx: &Tx<'_>,
    upload: i64,
    limit: usize,
    writable: Duration,
) -> Result<Vec<Unpublished>, StoreError> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&upload, &(limit as i64), &writable.as_secs_f64()];
    let rows = tx.rows("take unpublished narinfos", TAKE_UNPUBLISHED, &params).await?;
    let read = |row: &Row| {
        let key = read_text("a narinfo's key", row.get("key"))?;
        Ok(Unpublished { id: row.get("id"), key, narinfo: row.get("narinfo") })
    };
    rows.iter().map(read).collect()
}

/// How far the upload is.
///
/// # Errors
/// When the query fails.
pub async fn remaining(tx: &Tx<'_>, upload: i64) -> Result<Remaining, StoreError> {
    let rows = tx.rows("count what remains", REMAINING, &[&upload]).await?;
    Ok(rows.first().map_or_else(Remaining::default, |row| Remaining {
        published: row.get::<_, i64>("published") as u64,
        total: row.get::<_, i64>("total") as u64,
        without_nar: row.get::<_, i64>("without_nar") as u64,
        example: row.get("example"),
    }))
}

/// How many of these roots are not in the bucket.
///
/// # Errors
/// When the query fails.
pub async fn unpublished_roots(tx: &Tx<'_>, roots: &[i64]) -> Result<i64, StoreError> {
    let sql = "SELECT count(*) FROM unnest($1::bigint[]) AS r(id) \
               WHERE (SELECT true FROM objects o WHERE o.id = r.id AND o.stored_at IS NOT NULL \
                      LIMIT 1) IS NULL";
    let rows = tx.rows("look for unpublished roots", sql, &[&roots]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// Makes the stored listings of this upload references of their narinfos, where they are of the
/// contents that were composed, and remembers of which paths there can be none. Inside the gate.
///
/// # Errors
/// When the query fails.
pub async fn attach_listings(tx: &Tx<'_>, upload: i64) -> Result<(), StoreError> {
    tx.execute("attach listings", ATTACH_LISTINGS, &[&upload]).await.map(drop)
}
