//! Attachments: small texts beside a narinfo that the server writes, once the narinfo is published.
//! Realisations (in two layouts) and debug info.
//!
//! A path refers to its attachments, so they live as long as it does. A realisation belongs to one path,
//! and is deleted before it is: see sql/claim.sql.

use niks3_core::{
    object_key::ObjectKey,
    store_path::{StorePath, StorePathHash},
    wire::PlannedPath,
};
use tokio_postgres::{Row, types::ToSql};

use super::{Connection, StoreError, Tx, note_candidates, plan::hold, read_text, revive};

const STATUS: &str = include_str!("sql/attachments_status.sql");
const RECORD: &str = include_str!("sql/record_upload_attachments.sql");
const NEXT: &str = include_str!("sql/next_attachments.sql");
const LOCK_OBJECTS: &str = include_str!("sql/lock_objects.sql");
const COMPOSABLE: &str = include_str!("sql/composable_attachments.sql");
const COMPOSE: &str = include_str!("sql/compose_attachments.sql");
const ATTACH: &str = include_str!("sql/attach.sql");
const FINISH: &str = include_str!("sql/finish_attachments.sql");
const ADOPTABLE: &str = include_str!("sql/adoptable_attachment.sql");
const REALISATIONS_OF: &str = include_str!("sql/realisations_of.sql");

/// An attachment that a plan has.
#[derive(Clone, Debug)]
pub struct PlannedAttachment {
    /// Of which path.
    pub path: StorePathHash,
    /// Its key.
    pub key: ObjectKey,
    /// Of a realisation: those that it has, between spaces.
    pub signatures: String,
    /// Of a realisation: JSON, the outputs that it was built with and what they are.
    pub dependencies: String,
}

impl PlannedAttachment {
    /// All of a path.
    pub fn of(path: &PlannedPath) -> impl Iterator<Item = Self> + '_ {
        let hash = path.path.hash();
        let realisations = path.realisations.iter().map(move |realisation| {
            let signatures: Vec<_> =
                realisation.signatures.iter().map(ToString::to_string).collect();
            Self {
                path: hash,
                key: realisation.id.key(),
                signatures: signatures.join(" "),
                dependencies: serde_json::to_string(&realisation.dependencies)
                    .expect("names have a form in JSON"),
            }
        });
        let debug_info = path.debug_info.iter().map(move |id| {
            let (signatures, dependencies) = (String::new(), String::new());
            Self { path: hash, key: ObjectKey::DebugInfo(*id), signatures, dependencies }
        });
        realisations.chain(debug_info)
    }
}

/// What is known of a planned attachment.
struct Status {
    id: Option<i64>,
    condemned: bool,
    claimed: bool,
    lacking: bool,
}

fn keys(attachments: &[PlannedAttachment]) -> (Vec<String>, Vec<String>) {
    let narinfo = |one: &PlannedAttachment| ObjectKey::NarInfo(one.path).to_string();
    let narinfos = attachments.iter().map(narinfo).collect();
    (narinfos, attachments.iter().map(|one| one.key.to_string()).collect())
}

fn read_status(row: &Row) -> Status {
    Status {
        id: row.get("id"),
        condemned: row.get("condemned"),
        claimed: row.get("claimed"),
        lacking: row.get("lacking"),
    }
}

/// Which of these attachments are not in the bucket, or not attached, in their order.
///
/// # Errors
/// When the query fails.
pub async fn lacking(
    connection: &Connection,
    attachments: &[PlannedAttachment],
) -> Result<Vec<bool>, StoreError> {
    if attachments.is_empty() {
        return Ok(Vec::new());
    }
    let (narinfos, keys) = keys(attachments);
    let rows = connection.rows("look up attachments", STATUS, &[&narinfos, &keys]).await?;
    Ok(rows.iter().map(|row| read_status(row).lacking).collect())
}

/// Takes hold of the attachments that are lacking, and records that the upload will publish them; each is
/// given with its narinfo's row and level. They have rows. Inside the gate.
///
/// # Errors
/// [`StoreError::Claimed`] when one of them is being deleted.
pub async fn hold_attachments(
    tx: &Tx<'_>,
    upload: i64,
    attachments: &[(i64, i32, PlannedAttachment)],
) -> Result<(), StoreError> {
    if attachments.is_empty() {
        return Ok(());
    }
    let planned: Vec<_> = attachments.iter().map(|(.., one)| one.clone()).collect();
    let (narinfos, keys) = keys(&planned);
    let rows = tx.rows("look up attachments", STATUS, &[&narinfos, &keys]).await?;
    let (mut ids, mut condemned, mut work) = (Vec::new(), Vec::new(), Vec::new());
    for ((row, key), attachment) in rows.iter().zip(&keys).zip(attachments) {
        let status = read_status(row);
        match status.id {
            _ if !status.lacking => {}
            Some(id) if !status.claimed => {
                ids.push(id);
                condemned.extend(status.condemned.then_some(id));
                work.push(attachment);
            }
            // A row that was there when we inserted and is not now: deleted in between.
            _ => return Err(StoreError::Claimed(key.clone())),
        }
    }
    revive(tx, &condemned).await?;
    hold(tx, upload, &ids).await?;
    let narinfos: Vec<i64> = work.iter().map(|(narinfo, ..)| *narinfo).collect();
    let levels: Vec<i32> = work.iter().map(|(_, level, _)| *level).collect();
    let signatures: Vec<&str> = work.iter().map(|(.., one)| one.signatures.as_str()).collect();
    let depends: Vec<&str> = work.iter().map(|(.., one)| one.dependencies.as_str()).collect();
    let params: [&(dyn ToSql + Sync); 6] =
        [&upload, &ids, &narinfos, &levels, &signatures, &depends];
    tx.execute("record an upload's attachments", RECORD, &params).await.map(drop)
}

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
    /// See [`PlannedAttachment::signatures`].
    pub signatures: String,
    /// See [`PlannedAttachment::dependencies`].
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

/// Takes up an attachment that was just seen in the bucket: one of the path `path`, or that names the NAR
/// `nar`. It has a row. In the gate. `false`: nobody knows that, or somebody has the attachment in hand.
///
/// # Errors
/// When a query fails.
pub async fn adopt_attachment(
    tx: &Tx<'_>,
    key: &ObjectKey,
    path: Option<StorePathHash>,
    nar: Option<&ObjectKey>,
    text: &str,
) -> Result<bool, StoreError> {
    let narinfo = path.map(|path| ObjectKey::NarInfo(path).to_string());
    let nar = nar.map(ToString::to_string);
    let params: [&(dyn ToSql + Sync); 3] = [&key.to_string(), &narinfo, &nar];
    let rows = tx.rows("look up whose attachment it is", ADOPTABLE, &params).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    let id: i64 = row.get("id");
    let nar_id = nar.map(|_| row.get("nar_id"));
    let text = text.to_owned();
    let adopted = ComposedAttachment { id, narinfo_id: row.get("narinfo_id"), text, nar_id };
    compose_attachments(tx, &[adopted]).await?;
    let sql = "UPDATE objects SET stored_at = now() WHERE id = $1";
    tx.execute("adopt an attachment", sql, &[&id]).await?;
    // What it is of may be garbage already.
    note_candidates(tx, &[id]).await?;
    Ok(true)
}

/// The realisations of these narinfos: they are deleted before those are.
///
/// # Errors
/// When the query fails.
pub async fn realisations_of(
    connection: &Connection,
    narinfos: &[i64],
) -> Result<Vec<i64>, StoreError> {
    let rows = connection.rows("look up realisations", REALISATIONS_OF, &[&narinfos]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
