//! Listings and logs: optional, under keys that are the same for every push. Each has one writer and one
//! body until nobody can write it any more.

use niks3_core::{
    hash::{BodyChecksum, NarHash},
    object_key::{ObjectKey, ObjectKind},
    store_path::{StorePath, StorePathHash},
};
use tokio_postgres::Row;

use super::{OwnObject, StoreError, Tx, objects::read_own, read_text};

const INSERT: &str = include_str!("sql/insert_optional_rows.sql");
const PLANNED: &str = include_str!("sql/planned_optional.sql");
const TAKE: &str = include_str!("sql/take_optional.sql");
const LINK_LISTINGS: &str = include_str!("sql/link_listings.sql");
const LINK_LOGS: &str = include_str!("sql/link_logs.sql");
const MARK_NO_LISTING: &str = include_str!("sql/mark_no_listing.sql");

/// A listing or log that an upload would like to send.
#[derive(Clone, Debug)]
pub struct OptionalRow {
    /// Its key.
    pub key: ObjectKey,
    /// What its body depends on beside its key: of a listing the NarHash as this upload's plan has it.
    pub describes: String,
    /// Bytes of the body.
    pub bytes: u64,
    /// Of the body.
    pub checksum: BodyChecksum,
}

/// What an upload's plan says of one path.
#[derive(Clone, Debug)]
pub struct PlannedOptional {
    /// Which path.
    pub path: StorePathHash,
    /// With which contents.
    pub nar_hash: NarHash,
    /// Of which derivation it has the log.
    pub log_of: Option<StorePath>,
}

/// Which of these paths the upload has planned work for.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn planned_optional(
    tx: &Tx<'_>,
    upload: i64,
    paths: &[StorePathHash],
) -> Result<Vec<PlannedOptional>, StoreError> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let keys = narinfo_keys(paths);
    let rows = tx.rows("look up planned listings and logs", PLANNED, &[&upload, &keys]).await?;
    rows.iter().map(read_planned).collect()
}

fn read_planned(row: &Row) -> Result<PlannedOptional, StoreError> {
    let hash: String = row.get("nar_hash");
    let log_of: Option<String> = row.get("log_of");
    let path = match read_text("a narinfo's key", row.get("key"))? {
        ObjectKey::NarInfo(path) => path,
        other => return Err(StoreError::Corrupt { what: "a narinfo", text: other.to_string() }),
    };
    Ok(PlannedOptional {
        path,
        nar_hash: read_text("a NarHash", &format!("sha256:{hash}"))?,
        log_of: log_of.map(|name| read_text("a deriver", &name)).transpose()?,
    })
}

/// Makes rows for keys that have none. Before the gate: it waits for others that insert the same keys.
///
/// # Errors
/// When the query fails.
pub async fn insert_optional_rows(tx: &Tx<'_>, keys: &[ObjectKey]) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let kinds: Vec<i16> = keys.iter().map(|key| key.kind() as i16).collect();
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    tx.execute("insert rows of what is optional", INSERT, &[&keys, &kinds]).await.map(drop)
}

/// Makes this upload the writer of the listings and logs that nobody else can write any more, and adopts
/// those that are stored and of the same contents. Inside the gate; what it does not answer is somebody
/// else's at this moment.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn take_optional(
    tx: &Tx<'_>,
    upload: i64,
    wanted: &[OptionalRow],
) -> Result<Vec<OwnObject>, StoreError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<String> = wanted.iter().map(|one| one.key.to_string()).collect();
    let describes: Vec<&str> = wanted.iter().map(|one| one.describes.as_str()).collect();
    let bytes: Vec<i64> = wanted.iter().map(|one| one.bytes as i64).collect();
    let checksum: Vec<&[u8]> = wanted.iter().map(|one| one.checksum.as_bytes()).collect();
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&upload, &keys, &describes, &bytes, &checksum];
    let rows = tx.rows("take listings and logs", TAKE, &params).await?;
    rows.iter().map(read_own).collect()
}

/// Remembers those of these objects that are stored listings or logs as those of the upload's paths.
///
/// # Errors
/// When the query fails.
pub async fn link_optional(tx: &Tx<'_>, upload: i64, objects: &[i64]) -> Result<(), StoreError> {
    if objects.is_empty() {
        return Ok(());
    }
    tx.execute("link listings", LINK_LISTINGS, &[&upload, &objects]).await?;
    tx.execute("link logs", LINK_LOGS, &[&upload, &objects]).await.map(drop)
}

/// Whether an object is one that nothing rests on.
#[must_use]
pub fn is_optional(key: &ObjectKey) -> bool {
    matches!(key.kind(), ObjectKind::Listing | ObjectKind::Log)
}

fn narinfo_keys(paths: &[StorePathHash]) -> Vec<String> {
    paths.iter().map(|path| ObjectKey::NarInfo(*path).to_string()).collect()
}

/// Notes of which planned paths there can be no listing.
///
/// # Errors
/// When the query fails.
pub async fn mark_no_listing(
    tx: &Tx<'_>,
    upload: i64,
    paths: &[StorePathHash],
) -> Result<(), StoreError> {
    if paths.is_empty() {
        return Ok(());
    }
    let keys = narinfo_keys(paths);
    tx.execute("mark as unlistable", MARK_NO_LISTING, &[&upload, &keys]).await.map(drop)
}
