//! Publishing [attachments](super::attachments): composed once each, then sent, then attached.

use niks3_core::{object_key::ObjectKey, store_path::StorePath};
use tokio_postgres::{Row, types::ToSql};

use super::{StoreError, Tx, read_text};

const NEXT: &str = include_str!("sql/next_attachments.sql");
const LOCK_OBJECTS: &str = include_str!("sql/lock_objects.sql");
const COMPOSABLE: &str = include_str!("sql/composable_attachments.sql");
const COMPOSE: &str = include_str!("sql/compose_attachments.sql");
const ATTACH: &str = include_str!("sql/attach.sql");
const FINISH: &str = include_str!("sql/finish_attachments.sql");

/// An attachment that is not done yet, and what is known of it.
#[derive(Clone, Debug)]
pub struct NextAttachment {
    /// Its row.
    pub id: i64,
    /// The row of the narinfo that it is of.
    pub narinfo_id: i64,
    /// It is in the bucket.
    pub published: bool,
    /// It is being deleted.
    pub claimed: bool,
    /// The narinfo that it is of is in the bucket.
    pub path_published: bool,
    /// What it says is recorded, and is what it shall say.
    pub composed: bool,
    /// It is a realisation that belongs to another path.
    pub others: bool,
    /// Nobody can write it at this moment.
    pub quiet: bool,
}

/// Up to `limit` attachments of the upload that are not done, those first that others need.
///
/// # Errors
/// When the query fails.
pub async fn next_attachments(
    tx: &Tx<'_>,
    upload: i64,
    limit: usize,
) -> Result<Vec<NextAttachment>, StoreError> {
    let rows = tx.rows("look for attachments", NEXT, &[&upload, &(limit as i64)]).await?;
    let read = |row: &Row| NextAttachment {
        id: row.get("id"),
        narinfo_id: row.get("narinfo_id"),
        published: row.get("published"),
        claimed: row.get("claimed"),
        path_published: row.get("path_published"),
        composed: row.get("composed"),
        others: row.get("others"),
        quiet: row.get("quiet"),
    };
    Ok(rows.iter().map(read).collect())
}

/// What an attachment is composed of.
#[derive(Clone, Debug)]
pub struct ComposableAttachment {
    /// Its row.
    pub id: i64,
    /// Its key.
    pub key: ObjectKey,
    /// The row of the narinfo that it is of.
    pub narinfo_id: i64,
    /// The path that it is of.
    pub path: StorePath,
    /// The row of that path's NAR.
    pub nar_id: i64,
    /// And its key.
    pub nar: ObjectKey,
    /// See [`PlannedAttachment::signatures`](super::PlannedAttachment::signatures).
    pub signatures: String,
    /// See [`PlannedAttachment::dependencies`](super::PlannedAttachment::dependencies).
    pub dependencies: String,
}

/// Locks attachments' rows, and answers what those are composed of that nobody has composed as this
/// upload's path needs them. Those that another has in hand are left out. Inside the gate.
///
/// # Errors
/// When a query fails or a row cannot be read.
pub async fn lock_composable_attachments(
    tx: &Tx<'_>,
    upload: i64,
    ready: &[i64],
) -> Result<Vec<ComposableAttachment>, StoreError> {
    if ready.is_empty() {
        return Ok(Vec::new());
    }
    let locked = tx.rows("lock attachments", LOCK_OBJECTS, &[&ready]).await?;
    let locked: Vec<i64> = locked.iter().map(|row| row.get(0)).collect();
    // In a statement of its own: one that locks sees rows as they were before it waited.
    let rows = tx.rows("look at what to attach", COMPOSABLE, &[&upload, &locked]).await?;
    let read = |row: &Row| {
        Ok(ComposableAttachment {
            id: row.get("id"),
            key: read_text("an attachment's key", row.get("key"))?,
            narinfo_id: row.get("narinfo_id"),
            path: read_text("a store path", row.get("store_path"))?,
            nar_id: row.get("nar_id"),
            nar: read_text("a NAR's key", row.get("nar_key"))?,
            signatures: row.get("signatures"),
            dependencies: row.get("dependencies"),
        })
    };
    rows.iter().map(read).collect()
}

/// An attachment's text, to be recorded.
#[derive(Clone, Debug)]
pub struct ComposedAttachment {
    /// Its row.
    pub id: i64,
    /// The row of the narinfo that it is of.
    pub narinfo_id: i64,
    /// All of it.
    pub text: String,
    /// The row of the NAR that it names, if it is debug info.
    pub nar_id: Option<i64>,
}

/// Records attachments' texts: their paths refer to them from here on. In the transaction that
/// [locked](lock_composable_attachments) them.
///
/// # Errors
/// When the query fails.
pub async fn compose_attachments(
    tx: &Tx<'_>,
    composed: &[ComposedAttachment],
) -> Result<(), StoreError> {
    if composed.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = composed.iter().map(|one| one.id).collect();
    let narinfos: Vec<i64> = composed.iter().map(|one| one.narinfo_id).collect();
    let texts: Vec<&str> = composed.iter().map(|one| one.text.as_str()).collect();
    let nars: Vec<Option<i64>> = composed.iter().map(|one| one.nar_id).collect();
    let params: [&(dyn ToSql + Sync); 4] = [&ids, &narinfos, &texts, &nars];
    tx.execute("compose attachments", COMPOSE, &params).await.map(drop)
}

/// Notes that these are in the bucket as the upload's paths need them. Inside the gate.
///
/// # Errors
/// When the query fails.
pub async fn attach(
    tx: &Tx<'_>,
    upload: i64,
    published: &[&NextAttachment],
) -> Result<(), StoreError> {
    if published.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = published.iter().map(|one| one.id).collect();
    let narinfos: Vec<i64> = published.iter().map(|one| one.narinfo_id).collect();
    tx.execute("attach", ATTACH, &[&upload, &ids, &narinfos]).await.map(drop)
}

/// Notes that the upload has nothing to do for these.
///
/// # Errors
/// When the query fails.
pub async fn finish_attachments(tx: &Tx<'_>, upload: i64, ids: &[i64]) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    tx.execute("leave attachments", FINISH, &[&upload, &ids]).await.map(drop)
}
