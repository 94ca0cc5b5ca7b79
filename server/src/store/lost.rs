//! Objects that the database knows as stored and that the bucket does not have.

use niks3_core::{
    hash::NarHash,
    object_key::{ObjectKey, ObjectKind},
    store_path::StorePathHash,
};
use tokio_postgres::Row;

use super::{Connection, StoreError, Tx, plan::keys, read_text};

const RECORDED: &str = include_str!("sql/recorded_objects.sql");
const RECORDED_NARS: &str = include_str!("sql/recorded_nars.sql");
const UNSTORE: &str = include_str!("sql/unstore_lost.sql");
const VOID: &str = include_str!("sql/void_compositions.sql");
const UNDO: &str = include_str!("sql/undo_paths.sql");

/// An object that is said to be in the bucket.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its row.
    pub id: i64,
    /// Its key.
    pub key: ObjectKey,
    /// Bytes of its body, where they are known.
    pub bytes: Option<u64>,
    /// Since when, in microseconds since 1970: one that was sent again is another one.
    stored: i64,
}

impl Recorded {
    /// The NarHash, if it is a NAR.
    #[must_use]
    pub fn nar_hash(&self) -> Option<NarHash> {
        match self.key {
            ObjectKey::Nar(hash, _) => Some(hash),
            _ => None,
        }
    }
}

/// What of these paths, narinfos, NARs and listings, is said to be in the bucket.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn recorded(
    connection: &Connection,
    paths: &[StorePathHash],
) -> Result<Vec<Recorded>, StoreError> {
    let (narinfos, listings) = keys(paths);
    let rows = connection.rows("look up what is stored", RECORDED, &[&narinfos, &listings]).await?;
    rows.iter().map(read).collect()
}

/// Notes that these objects are not in the bucket, unless they were sent again since they were
/// looked up. What was composed with a lost NAR is void: the next commit composes it anew. Inside
/// the gate.
///
/// # Errors
/// When a query fails.
pub async fn void_lost(tx: &Tx<'_>, lost: &[Recorded]) -> Result<(), StoreError> {
    if lost.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = lost.iter().map(|object| object.id).collect();
    let stored: Vec<i64> = lost.iter().map(|object| object.stored).collect();
    let rows = tx.rows("unstore what is lost", UNSTORE, &[&ids, &stored]).await?;
    let unstored: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let of = |kind: ObjectKind| -> Vec<i64> {
        let wanted =
            |object: &&Recorded| object.key.kind() == kind && unstored.contains(&object.id);
        lost.iter().filter(wanted).map(|object| object.id).collect()
    };
    let mut narinfos = of(ObjectKind::NarInfo);
    let rows = tx.rows("void compositions", VOID, &[&of(ObjectKind::Nar)]).await?;
    narinfos.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    tx.execute("undo paths", UNDO, &[&narinfos]).await.map(drop)
}

/// The NARs that are said to be in the bucket of these contents, those that a push adopts.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn recorded_nars(
    connection: &Connection,
    hashes: &[NarHash],
) -> Result<Vec<Recorded>, StoreError> {
    let hashes: Vec<String> = hashes.iter().map(NarHash::nix32).collect();
    let rows = connection.rows("look up stored NARs", RECORDED_NARS, &[&hashes]).await?;
    rows.iter().map(read).collect()
}

pub(super) fn read(row: &Row) -> Result<Recorded, StoreError> {
    Ok(Recorded {
        id: row.get("id"),
        key: read_text("a key", row.get("key"))?,
        bytes: row.get::<_, Option<i64>>("size").map(|bytes| bytes as u64),
        stored: row.get("stored"),
    })
}
