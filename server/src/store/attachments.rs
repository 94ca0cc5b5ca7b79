//! Attachments: small texts beside a narinfo that the server writes, once the narinfo is published.
//! Realisations (in two layouts) and debug info.
//!
//! A path refers to its attachments, so they live as long as it does. A realisation belongs to one path,
//! and is deleted before it is: see sql/claim.sql.

use niks3_core::{object_key::ObjectKey, store_path::StorePathHash, wire::PlannedPath};
use tokio_postgres::{Row, types::ToSql};

use super::{
    ComposedAttachment, Connection, StoreError, Tx, compose_attachments, note_candidates,
    plan::hold, revive,
};

const STATUS: &str = include_str!("sql/attachments_status.sql");
const RECORD: &str = include_str!("sql/record_upload_attachments.sql");
const ADOPTABLE: &str = include_str!("sql/adoptable_attachment.sql");
const STORED: &str = include_str!("sql/stored_realisations.sql");
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

/// Realisations in the bucket by which a reader learns of these narinfos, each with its narinfo.
///
/// # Errors
/// When the query fails.
pub async fn stored_realisations(
    connection: &Connection,
    narinfos: &[i64],
) -> Result<Vec<(i64, i64)>, StoreError> {
    let rows = connection.rows("look up stored realisations", STORED, &[&narinfos]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
