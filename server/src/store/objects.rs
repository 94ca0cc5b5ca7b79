//! NARs, and all that is sent: who may write which key, and what is in the bucket.

use std::time::Duration;

use niks3_core::{
    hash::{BodyChecksum, FileHash, NarHash},
    object_key::ObjectKey,
};

use super::{StoreError, Token, Tx, optional::link_optional, read_text};

const ADOPT_NARS: &str = include_str!("sql/adopt_nars.sql");
const OWN_NARS: &str = include_str!("sql/own_nars.sql");
const COUNT_OWN_NARS: &str = include_str!("sql/count_own_nars.sql");
const INSERT_NARS: &str = include_str!("sql/insert_nars.sql");
const HOLD_AND_WRITE: &str = include_str!("sql/hold_and_write.sql");
const OWN_OBJECTS: &str = include_str!("sql/own_objects.sql");
const MARK_STORED: &str = include_str!("sql/mark_stored.sql");
const MARK_SENT: &str = include_str!("sql/mark_sent.sql");

/// A NAR that an upload is about to send: its key and the one body that the key is for.
#[derive(Clone, Debug)]
pub struct NarRow {
    /// Its key, the random part included.
    pub key: ObjectKey,
    /// Its NarHash.
    pub nar_hash: NarHash,
    /// Bytes of the body.
    pub bytes: u64,
    /// Of the body.
    pub checksum: BodyChecksum,
}

/// An object whose key an upload may write.
#[derive(Clone, Debug)]
pub struct OwnObject {
    /// Its row.
    pub id: i64,
    /// Its key.
    pub key: ObjectKey,
    /// Bytes of the one body that the key is for.
    pub bytes: u64,
    /// Whether it is stored already.
    pub stored: bool,
}

/// Which of these NarHashes the upload has planned.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn planned_nars(
    tx: &Tx<'_>,
    upload: i64,
    hashes: &[NarHash],
) -> Result<Vec<NarHash>, StoreError> {
    let hashes: Vec<String> = hashes.iter().map(NarHash::nix32).collect();
    let sql = "SELECT h.hash FROM unnest($2::text[]) AS h(hash) \
               WHERE (SELECT true FROM upload_paths p WHERE p.upload = $1 AND p.nar_hash = h.hash \
                      LIMIT 1)";
    read_hashes(&tx.rows("look up planned NARs", sql, &[&upload, &hashes]).await?)
}

fn read_hashes(rows: &[tokio_postgres::Row]) -> Result<Vec<NarHash>, StoreError> {
    let read = |row: &tokio_postgres::Row| {
        let nix32: String = row.get(0);
        read_text("a NarHash", &format!("sha256:{nix32}"))
    };
    rows.iter().map(read).collect()
}

/// Takes hold of NARs that are in the bucket already, the first stored of each hash; a condemned
/// one is revived. Inside the gate. Answers which hashes were found.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn adopt_nars(
    tx: &Tx<'_>,
    upload: i64,
    hashes: &[NarHash],
) -> Result<Vec<NarHash>, StoreError> {
    if hashes.is_empty() {
        return Ok(Vec::new());
    }
    let hashes: Vec<String> = hashes.iter().map(NarHash::nix32).collect();
    read_hashes(&tx.rows("adopt NARs", ADOPT_NARS, &[&upload, &hashes]).await?)
}

/// Keys that this upload was given for the same bodies before: an expired URL is renewed, not
/// given another key.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn own_nars(
    tx: &Tx<'_>,
    upload: i64,
    nars: &[(NarHash, u64, BodyChecksum)],
) -> Result<Vec<OwnObject>, StoreError> {
    let hashes: Vec<String> = nars.iter().map(|(hash, ..)| hash.nix32()).collect();
    let bytes: Vec<i64> = nars.iter().map(|(_, bytes, _)| *bytes as i64).collect();
    let checksum: Vec<&[u8]> = nars.iter().map(|(.., checksum)| checksum.as_bytes()).collect();
    let rows =
        tx.rows("look up own NARs", OWN_NARS, &[&upload, &hashes, &bytes, &checksum]).await?;
    rows.iter().map(read_own).collect()
}

/// Makes rows for NARs with new random keys. Answers their ids, in order.
///
/// # Errors
/// When the query fails.
pub async fn insert_nars(
    tx: &Tx<'_>,
    upload: i64,
    nars: &[NarRow],
) -> Result<Vec<i64>, StoreError> {
    let keys: Vec<String> = nars.iter().map(|nar| nar.key.to_string()).collect();
    let bytes: Vec<i64> = nars.iter().map(|nar| nar.bytes as i64).collect();
    let checksum: Vec<&[u8]> = nars.iter().map(|nar| nar.checksum.as_bytes()).collect();
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
        [&upload, &keys, &bytes, &checksum];
    let rows = tx.rows("insert NARs", INSERT_NARS, &params).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Takes hold of objects and records for how long somebody may write each: to be committed before
/// the URLs leave the server. Inside the gate. Answers the database's time, in seconds since 1970,
/// that the URLs are to be signed with.
///
/// # Errors
/// When the query fails.
pub async fn hold_and_write(
    tx: &Tx<'_>,
    upload: i64,
    objects: &[(i64, Duration)],
) -> Result<f64, StoreError> {
    let ids: Vec<i64> = objects.iter().map(|(id, _)| *id).collect();
    let seconds: Vec<f64> = objects.iter().map(|(_, time)| time.as_secs_f64()).collect();
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&upload, &ids, &seconds];
    let rows = tx.rows("hold what may be written", HOLD_AND_WRITE, &params).await?;
    Ok(rows.first().map_or(0.0, |row| row.get(0)))
}

/// The largest numbers of keys that this upload has for one of these NarHashes: of those that it may
/// write or could have written, and of all, those included that S3 has not opened.
///
/// # Errors
/// When the query fails.
pub async fn count_own_nars(
    tx: &Tx<'_>,
    upload: i64,
    hashes: &[NarHash],
) -> Result<(i64, i64), StoreError> {
    let hashes: Vec<String> = hashes.iter().map(NarHash::nix32).collect();
    let rows = tx.rows("count own NARs", COUNT_OWN_NARS, &[&upload, &hashes]).await?;
    Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
}

/// Those of `keys` that this upload may write. What is not answered is not its own.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn own_objects(
    tx: &Tx<'_>,
    upload: i64,
    keys: &[ObjectKey],
) -> Result<Vec<OwnObject>, StoreError> {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let rows = tx.rows("look up own objects", OWN_OBJECTS, &[&upload, &keys]).await?;
    rows.iter().map(read_own).collect()
}

pub(super) fn read_own(row: &tokio_postgres::Row) -> Result<OwnObject, StoreError> {
    Ok(OwnObject {
        id: row.get("id"),
        key: read_text("a key", row.get("key"))?,
        bytes: row.get::<_, Option<i64>>("size").unwrap_or(0) as u64,
        stored: row.get("stored"),
    })
}

/// Notes that these narinfos, which the server has sent, are in the bucket, and answers those of
/// which that is true: one whose composition has been found to be void since it was taken is none. Inside
/// the gate, by whoever holds them.
///
/// # Errors
/// When the query fails.
pub async fn mark_stored(tx: &Tx<'_>, sent: &[Token]) -> Result<Vec<i64>, StoreError> {
    if sent.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = sent.iter().map(|token| token.id).collect();
    let versions: Vec<i64> = sent.iter().map(|token| token.version).collect();
    let rows = tx.rows("mark as stored", MARK_STORED, &[&ids, &versions]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// An object that was found in the bucket as it was reported.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Its row.
    pub id: i64,
    /// SHA-256 of its body, if it is a NAR.
    pub file_hash: Option<FileHash>,
    /// Bytes of its body, if it was sent in parts: nobody knew before.
    pub bytes: Option<u64>,
}

/// Notes that objects which the upload was to send are in the bucket. What is stored already keeps
/// what it has. Inside the gate.
///
/// # Errors
/// When the query fails.
pub async fn mark_sent(tx: &Tx<'_>, upload: i64, objects: &[Sent]) -> Result<(), StoreError> {
    if objects.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = objects.iter().map(|object| object.id).collect();
    let hash = |object: &Sent| object.file_hash.map(|hash| hash.as_bytes().to_vec());
    let hashes: Vec<Option<Vec<u8>>> = objects.iter().map(hash).collect();
    let bytes: Vec<Option<i64>> =
        objects.iter().map(|object| object.bytes.map(|bytes| bytes as i64)).collect();
    tx.execute("mark as sent", MARK_SENT, &[&upload, &ids, &hashes, &bytes]).await?;
    link_optional(tx, upload, &ids).await
}
