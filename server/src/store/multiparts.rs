//! NARs that are being sent in parts: which multipart uploads S3 may have open for us.

use niks3_core::{hash::NarHash, object_key::ObjectKey};
use tokio_postgres::{Row, types::ToSql};

use super::{Connection, StoreError, Tx, read_text};

const INSERT_LARGE_NARS: &str = include_str!("sql/insert_large_nars.sql");
const OWN_MULTIPARTS: &str = include_str!("sql/own_multiparts.sql");
const UNUSED_MULTIPARTS: &str = include_str!("sql/unused_multiparts.sql");
const OTHER_MULTIPARTS: &str = include_str!("sql/other_multiparts.sql");
const ENDED_MULTIPARTS: &str = include_str!("sql/ended_multiparts.sql");

/// A multipart upload.
#[derive(Clone, Debug)]
pub struct Multipart {
    /// The row of its NAR.
    pub id: i64,
    /// The key that it is for.
    pub key: ObjectKey,
    /// S3's name of it. `None`: S3 may have opened it and its answer was lost.
    pub s3_id: Option<String>,
}

/// Makes rows for NARs with new random keys that will be sent in parts: to be committed before S3
/// is asked to open them, so that a crash in between leaves nothing that cannot be found. Answers
/// their ids, in order.
///
/// # Errors
/// When the query fails.
pub async fn insert_large_nars(
    tx: &Tx<'_>,
    upload: i64,
    keys: &[ObjectKey],
) -> Result<Vec<i64>, StoreError> {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let rows = tx.rows("insert large NARs", INSERT_LARGE_NARS, &[&upload, &keys]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Notes what S3 calls the multipart upload of a NAR. `false`: it has ended meanwhile.
///
/// # Errors
/// When the query fails.
pub async fn multipart_opened(tx: &Tx<'_>, id: i64, s3_id: &str) -> Result<bool, StoreError> {
    let sql = "UPDATE multiparts SET s3_id = $2 WHERE object_id = $1";
    Ok(tx.execute("note a multipart upload", sql, &[&id, &s3_id]).await? > 0)
}

/// Those of `keys` for which this upload has a multipart upload under way. From now on it is in use.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn own_multiparts(
    tx: &Tx<'_>,
    upload: i64,
    keys: &[ObjectKey],
) -> Result<Vec<Multipart>, StoreError> {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let rows = tx.rows("look up multipart uploads", OWN_MULTIPARTS, &[&upload, &keys]).await?;
    rows.iter().map(read).collect()
}

/// Multipart uploads that S3 has opened for this upload and that it has not begun to use, one for
/// each of these NarHashes: a call whose answer was lost is not answered with another one.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn unused_multiparts(
    tx: &Tx<'_>,
    upload: i64,
    hashes: &[NarHash],
) -> Result<Vec<Multipart>, StoreError> {
    let hashes: Vec<String> = hashes.iter().map(NarHash::nix32).collect();
    let rows =
        tx.rows("look up unused multipart uploads", UNUSED_MULTIPARTS, &[&upload, &hashes]).await?;
    rows.iter().map(read).collect()
}

/// Up to `limit` multipart uploads of anyone for the contents of `stored` NARs.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn other_multiparts(
    tx: &Tx<'_>,
    stored: &[i64],
    limit: usize,
) -> Result<Vec<Multipart>, StoreError> {
    let params: [&(dyn ToSql + Sync); 2] = [&stored, &(limit as i64)];
    let rows = tx.rows("look up other multipart uploads", OTHER_MULTIPARTS, &params).await?;
    rows.iter().map(read).collect()
}

/// All multipart uploads of one upload.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn multiparts_of(
    connection: &Connection,
    upload: i64,
) -> Result<Vec<Multipart>, StoreError> {
    let sql = "SELECT m.object_id AS id, m.key, m.s3_id FROM multiparts m WHERE m.upload = $1";
    let rows = connection.rows("list an upload's multipart uploads", sql, &[&upload]).await?;
    rows.iter().map(read).collect()
}

/// Up to `limit` multipart uploads whose push has ended or is gone and that nobody can write any
/// more, those after the one with the row `after`.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn ended_multiparts(
    connection: &Connection,
    after: i64,
    limit: usize,
) -> Result<Vec<Multipart>, StoreError> {
    let params: [&(dyn ToSql + Sync); 2] = [&after, &(limit as i64)];
    let rows = connection.rows("look for ended uploads' parts", ENDED_MULTIPARTS, &params).await?;
    rows.iter().map(read).collect()
}

/// Forgets multipart uploads that S3 has completed or knows no more.
///
/// # Errors
/// When the query fails.
pub async fn forget_multiparts(tx: &Tx<'_>, ids: &[i64]) -> Result<(), StoreError> {
    let sql = "DELETE FROM multiparts WHERE object_id = ANY ($1)";
    tx.execute("forget multipart uploads", sql, &[&ids]).await.map(drop)
}

fn read(row: &Row) -> Result<Multipart, StoreError> {
    Ok(Multipart {
        id: row.get("id"),
        key: read_text("a key", row.get("key"))?,
        s3_id: row.get("s3_id"),
    })
}
