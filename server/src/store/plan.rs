//! The queries of a plan: what is there, what shall be held.

use niks3_core::{
    hash::NarHash,
    object_key::ObjectKey,
    store_path::{StorePath, StorePathHash},
    wire::PlannedPath,
};

use super::{Connection, StoreError, Tx, read_text};

const STATUS: &str = include_str!("sql/path_status.sql");
const INSERT_ROWS: &str = include_str!("sql/insert_narinfo_rows.sql");
const REVIVE: &str = include_str!("sql/revive.sql");
const RECORD: &str = include_str!("sql/record_upload_paths.sql");

/// What the database knows of one planned path.
#[derive(Clone, Debug)]
pub struct PathStatus {
    /// The row of its narinfo.
    pub id: Option<i64>,
    /// Its narinfo is in the bucket.
    pub published: bool,
    /// It is garbage, not yet being deleted.
    pub condemned: bool,
    /// It is being deleted.
    pub claimed: bool,
    /// What it is, once it has been composed.
    pub nar_hash: Option<NarHash>,
    /// Whether a listing of it could be sent: none is attached, none of other contents occupies
    /// its key, and it is not known that there can be none.
    pub lacks_listing: bool,
    /// Whether it has a log that is not in the bucket, or not attached to it.
    pub lacks_log: bool,
}

/// What an upload says of a path that it has work to do for.
#[derive(Clone, Debug)]
pub struct PlanRow {
    /// The row of its narinfo.
    pub id: i64,
    /// Its base name.
    pub store_path: String,
    /// The hash of its NAR.
    pub nar_hash: NarHash,
    /// Bytes of its NAR.
    pub nar_size: i64,
    /// What built it.
    pub deriver: Option<String>,
    /// What content-addresses it.
    pub ca: Option<String>,
    /// Signatures between spaces.
    pub signatures: String,
    /// Narinfos of its references, itself left out.
    pub refs: Vec<i64>,
    /// Base names of its references between spaces, itself included.
    pub ref_paths: String,
    /// Above the levels of its references within the plan.
    pub level: i32,
    /// Whether its deriver has a log.
    pub has_log: bool,
}

/// What is known of each of `paths`, in their order, as of now: one statement, whatever their
/// number.
///
/// # Errors
/// When the query fails.
pub async fn status(
    connection: &Connection,
    paths: &[&PlannedPath],
) -> Result<Vec<PathStatus>, StoreError> {
    let (narinfos, listings) = keys(&hashes(paths));
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&narinfos, &listings, &log_keys(paths)];
    let rows = connection.rows("look up paths", STATUS, &params).await?;
    rows.iter().map(read_status).collect()
}

/// Takes hold of the narinfos of `paths`, reviving what is condemned. Inside the gate. Answers each
/// one's row and what is known of it.
///
/// # Errors
/// [`StoreError::Claimed`] when one of them, or something that it refers to, is being deleted.
pub async fn hold_paths(
    tx: &Tx<'_>,
    upload: i64,
    paths: &[&PlannedPath],
) -> Result<Vec<(i64, PathStatus)>, StoreError> {
    let (narinfos, listings) = keys(&hashes(paths));
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&narinfos, &listings, &log_keys(paths)];
    let rows = tx.rows("look up paths", STATUS, &params).await?;
    let mut held = Vec::with_capacity(rows.len());
    for (row, key) in rows.iter().zip(&narinfos) {
        let status = read_status(row)?;
        match status.id {
            // A row that was there when we inserted and is not now: deleted in between.
            Some(id) if !status.claimed => held.push((id, status)),
            _ => return Err(StoreError::Claimed(key.clone())),
        }
    }
    let condemned: Vec<i64> =
        held.iter().filter(|(_, status)| status.condemned).map(|(id, _)| *id).collect();
    revive(tx, &condemned).await?;
    let ids: Vec<i64> = held.iter().map(|(id, _)| *id).collect();
    hold(tx, upload, &ids).await?;
    Ok(held)
}

/// Takes hold of objects. Inside the gate.
pub(super) async fn hold(tx: &Tx<'_>, upload: i64, ids: &[i64]) -> Result<(), StoreError> {
    let sql = "INSERT INTO holds (upload, object_id) \
               SELECT DISTINCT $1::bigint, id FROM unnest($2::bigint[]) AS i(id) ORDER BY id \
               ON CONFLICT DO NOTHING";
    tx.execute("hold objects", sql, &[&upload, &ids]).await.map(drop)
}

/// Makes rows for the narinfos that have none; ids grow in the order of `paths`, references first.
/// Before the gate: it waits for other pushes that insert the same keys, all in one order.
///
/// # Errors
/// When the query fails.
pub async fn insert_narinfo_rows(tx: &Tx<'_>, paths: &[StorePathHash]) -> Result<(), StoreError> {
    let (narinfos, _) = keys(paths);
    tx.execute("insert narinfo rows", INSERT_ROWS, &[&narinfos]).await.map(drop)
}

/// Takes condemned objects back, with all that they refer to in the database, be it in this plan
/// or not. Inside the gate.
///
/// # Errors
/// [`StoreError::Claimed`] when one of them is being deleted: roll back, wait, try again.
pub async fn revive(tx: &Tx<'_>, condemned: &[i64]) -> Result<(), StoreError> {
    if condemned.is_empty() {
        return Ok(());
    }
    let claimed = tx.rows("revive", REVIVE, &[&condemned]).await?;
    match claimed.first() {
        Some(row) => Err(StoreError::Claimed(row.get(0))),
        None => Ok(()),
    }
}

/// Records what an upload says of the paths that it has work to do for.
///
/// # Errors
/// When the query fails.
pub async fn record_paths(tx: &Tx<'_>, upload: i64, rows: &[PlanRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    fn column<'a, T>(rows: &'a [PlanRow], get: impl Fn(&'a PlanRow) -> T) -> Vec<T> {
        rows.iter().map(get).collect()
    }
    // An array of arrays of different lengths has no form in PostgreSQL; an array's text has.
    let refs = column(rows, |row| {
        let ids: Vec<String> = row.refs.iter().map(ToString::to_string).collect();
        format!("{{{}}}", ids.join(","))
    });
    tx.execute(
        "record an upload's paths",
        RECORD,
        &[
            &upload,
            &column(rows, |row| row.id),
            &column(rows, |row| row.store_path.as_str()),
            &column(rows, |row| row.nar_hash.nix32()),
            &column(rows, |row| row.nar_size),
            &column(rows, |row| row.deriver.as_deref()),
            &column(rows, |row| row.ca.as_deref()),
            &column(rows, |row| row.signatures.as_str()),
            &refs,
            &column(rows, |row| row.ref_paths.as_str()),
            &column(rows, |row| row.level),
            &column(rows, |row| row.has_log),
        ],
    )
    .await
    .map(drop)
}

fn hashes(paths: &[&PlannedPath]) -> Vec<StorePathHash> {
    paths.iter().map(|path| path.path.hash()).collect()
}

/// Of those that have one.
fn log_keys(paths: &[&PlannedPath]) -> Vec<Option<String>> {
    paths.iter().map(|path| Some(ObjectKey::Log(log_of(path)?.clone()).to_string())).collect()
}

/// The derivation whose log a path brings along.
#[must_use]
pub fn log_of(path: &PlannedPath) -> Option<&StorePath> {
    path.deriver.as_ref().filter(|deriver| path.log && deriver.is_derivation())
}

pub(super) fn keys(paths: &[StorePathHash]) -> (Vec<String>, Vec<String>) {
    let narinfos = paths.iter().map(|path| ObjectKey::NarInfo(*path).to_string()).collect();
    let listings = paths.iter().map(|path| ObjectKey::Listing(*path).to_string()).collect();
    (narinfos, listings)
}

fn read_status(row: &tokio_postgres::Row) -> Result<PathStatus, StoreError> {
    let nar_hash: Option<String> = row.get("nar_hash");
    Ok(PathStatus {
        id: row.get("id"),
        published: row.get("published"),
        condemned: row.get("condemned"),
        claimed: row.get("claimed"),
        nar_hash: nar_hash
            .map(|hash| read_text("a NarHash", &format!("sha256:{hash}")))
            .transpose()?,
        lacks_listing: row.get("lacks_listing"),
        lacks_log: row.get("lacks_log"),
    })
}
