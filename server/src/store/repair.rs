//! Mending what `fsck` finds.

use std::time::Duration;

use niks3_core::{
    hash::{FileHash, NarHash},
    object_key::{ObjectKey, ObjectKind},
    pin_name::PinName,
    store_path::{StorePath, StorePathHash},
};
use tokio_postgres::types::ToSql;

use super::{StoreError, Tx, read_text};

const DROP_DANGLING: &str = include_str!("sql/drop_dangling.sql");
const DROP_STRAY_HOLDS: &str = include_str!("sql/drop_stray_holds.sql");
const REVIVABLE: &str = include_str!("sql/revivable.sql");
const UNSTORE: &str = include_str!("sql/unstore.sql");
const REPUBLISHABLE: &str = include_str!("sql/republishable.sql");
const UNREALISABLE: &str = include_str!("sql/unrealisable.sql");
const VOID: &str = include_str!("sql/void_narinfos.sql");
const UNDO: &str = include_str!("sql/undo_paths.sql");
const TAKE_STRAYS: &str = include_str!("sql/take_strays.sql");
const ADOPTABLE: &str = include_str!("sql/adoptable.sql");
const ADOPT_OBJECT: &str = include_str!("sql/adopt_object.sql");
const ADOPT_NARINFO: &str = include_str!("sql/adopt_narinfo.sql");
const ADOPT_GARBAGE: &str = include_str!("sql/adopt_garbage.sql");
const ADOPT_PIN: &str = include_str!("sql/adopt_pin.sql");

/// Notes that objects may be garbage. That is asked again, so nothing rests on it.
///
/// # Errors
/// When the query fails.
pub async fn note_candidates(tx: &Tx<'_>, ids: &[i64]) -> Result<(), StoreError> {
    let sql = "INSERT INTO candidates SELECT DISTINCT id FROM unnest($1::bigint[]) AS i(id) \
               ORDER BY id ON CONFLICT DO NOTHING";
    tx.execute("note candidates", sql, &[&ids]).await.map(drop)
}

/// Removes what names objects that there are not, or refers to one. In the gate, alone.
///
/// # Errors
/// When the query fails.
pub async fn drop_dangling(tx: &Tx<'_>, ids: &[i64]) -> Result<(), StoreError> {
    tx.execute("drop what dangles", DROP_DANGLING, &[&ids]).await?;
    tx.execute("drop stray holds", DROP_STRAY_HOLDS, &[&ids]).await.map(drop)
}

/// Revives those of `ids` that are condemned and not being deleted, with all that they refer to. In
/// the gate.
///
/// # Errors
/// When a query fails, or something that they refer to is being deleted.
pub async fn revive_needed(tx: &Tx<'_>, ids: &[i64]) -> Result<(), StoreError> {
    let rows = tx.rows("look what can be revived", REVIVABLE, &[&ids]).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    super::revive(tx, &ids).await
}

/// Notes that objects are not in the bucket, unless they were sent after `before`: seconds since 1970.
/// In the gate, alone. Answers those of which that is true.
///
/// # Errors
/// When the query fails.
pub async fn unstore(tx: &Tx<'_>, ids: &[i64], before: f64) -> Result<Vec<i64>, StoreError> {
    let rows = tx.rows("unstore", UNSTORE, &[&ids, &before]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Those of these narinfos that can be sent again as they were composed.
///
/// # Errors
/// When the query fails.
pub async fn republishable(tx: &Tx<'_>, ids: &[i64]) -> Result<Vec<i64>, StoreError> {
    let rows = tx.rows("look what can be sent again", REPUBLISHABLE, &[&ids]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A narinfo that cannot be realised.
#[derive(Clone, Debug)]
pub struct Unrealisable {
    /// Its row.
    pub id: i64,
    /// Its key.
    pub key: ObjectKey,
    /// What it refers to among those that cannot be realised.
    pub refs: Vec<i64>,
}

/// These narinfos and all that refer to them.
///
/// # Errors
/// When the query fails or a key cannot be read.
pub async fn unrealisable(tx: &Tx<'_>, ids: &[i64]) -> Result<Vec<Unrealisable>, StoreError> {
    let rows = tx.rows("look what cannot be realised", UNREALISABLE, &[&ids]).await?;
    let read = |row: &tokio_postgres::Row| {
        let key = read_text("a key", row.get("key"))?;
        Ok(Unrealisable { id: row.get("id"), key, refs: row.get("refs") })
    };
    rows.iter().map(read).collect()
}

/// Voids narinfos: nobody writes them for `fence`. In the gate, alone. Answers the database's time,
/// seconds since 1970, from which on they may be deleted from the bucket.
///
/// # Errors
/// When a query fails.
pub async fn void_narinfos(tx: &Tx<'_>, ids: &[i64], fence: Duration) -> Result<f64, StoreError> {
    let params: [&(dyn ToSql + Sync); 2] = [&ids, &fence.as_secs_f64()];
    let rows = tx.rows("void narinfos", VOID, &params).await?;
    tx.execute("undo paths", UNDO, &[&ids]).await?;
    Ok(rows.first().map_or(0.0, |row| row.get("at")))
}

/// The rows of narinfos in the bucket that nobody knows, holds or may be writing, locked. They have rows:
/// see [`super::insert_narinfo_rows`]. In the gate, alone.
///
/// # Errors
/// When the query fails.
pub async fn take_strays(tx: &Tx<'_>, strays: &[StorePathHash]) -> Result<Vec<i64>, StoreError> {
    let keys: Vec<String> =
        strays.iter().map(|hash| ObjectKey::NarInfo(*hash).to_string()).collect();
    let rows = tx.rows("take strays", TAKE_STRAYS, &[&keys]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Whether a narinfo in the bucket can be adopted.
#[derive(Clone, Debug)]
pub struct Adoptable {
    /// Its row, locked.
    pub id: i64,
    /// Somebody composed it meanwhile, or may be writing it.
    pub taken: bool,
    /// The rows of what it refers to, as far as that is published.
    pub refs: Vec<i64>,
}

/// Looks at a narinfo that has a row, and locks it. In the gate.
///
/// # Errors
/// When the query fails.
pub async fn adoptable(
    tx: &Tx<'_>,
    narinfo: StorePathHash,
    references: &[StorePathHash],
) -> Result<Option<Adoptable>, StoreError> {
    let keys: Vec<String> =
        references.iter().map(|hash| ObjectKey::NarInfo(*hash).to_string()).collect();
    let key = ObjectKey::NarInfo(narinfo).to_string();
    let rows = tx.rows("look at what may be adopted", ADOPTABLE, &[&key, &keys]).await?;
    Ok(rows.first().map(|row| Adoptable {
        id: row.get("id"),
        taken: row.get("composed") || row.get::<_, Option<bool>>("writable") == Some(true),
        refs: row.get("refs"),
    }))
}

/// Makes a row for an object that was just seen in the bucket. `None`: it is being deleted.
///
/// # Errors
/// When the query fails.
pub async fn adopt_object(
    tx: &Tx<'_>,
    key: &ObjectKey,
    bytes: u64,
    file_hash: Option<FileHash>,
    describes: Option<NarHash>,
) -> Result<Option<i64>, StoreError> {
    let sha256 = file_hash.map(|hash| hash.as_bytes().to_vec());
    let describes = describes.map(|hash| hash.nix32());
    let (key, kind, bytes) = (key.to_string(), key.kind() as i16, bytes as i64);
    let params: [&(dyn ToSql + Sync); 5] = [&key, &kind, &bytes, &sha256, &describes];
    let rows = tx.rows("adopt an object", ADOPT_OBJECT, &params).await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// Records what a narinfo in the bucket says, and that it was pushed as a root, now. In the transaction
/// that [locked](adoptable) it.
///
/// # Errors
/// When the query fails.
pub async fn adopt_narinfo(
    tx: &Tx<'_>,
    id: i64,
    path: &StorePath,
    (nar_hash, nar_id): (NarHash, i64),
    text: &str,
    refs: &[i64],
) -> Result<(), StoreError> {
    let (path, nar_hash) = (path.to_string(), nar_hash.nix32());
    let params: [&(dyn ToSql + Sync); 6] = [&id, &path, &nar_hash, &nar_id, &text, &refs];
    tx.execute("adopt a narinfo", ADOPT_NARINFO, &params).await.map(drop)
}

/// Makes rows, as garbage, for NARs and listings in the bucket that nobody knows. Somebody may write them for
/// `writable`.
///
/// # Errors
/// When the query fails.
pub async fn adopt_garbage(
    tx: &Tx<'_>,
    objects: &[(ObjectKey, u64)],
    writable: Duration,
) -> Result<(), StoreError> {
    let keys: Vec<String> = objects.iter().map(|(key, _)| key.to_string()).collect();
    let kinds: Vec<i16> = objects.iter().map(|(key, _)| key.kind() as i16).collect();
    let bytes: Vec<i64> = objects.iter().map(|(_, bytes)| *bytes as i64).collect();
    debug_assert!(objects.iter().all(|(key, _)| key.kind() != ObjectKind::NarInfo));
    let params: [&(dyn ToSql + Sync); 4] = [&keys, &kinds, &bytes, &writable.as_secs_f64()];
    tx.execute("adopt garbage", ADOPT_GARBAGE, &params).await.map(drop)
}

/// Makes a pin of a pin's file, if it names a closure. In the gate.
///
/// # Errors
/// When the query fails.
pub async fn adopt_pin(tx: &Tx<'_>, name: &PinName, path: &StorePath) -> Result<bool, StoreError> {
    let key = ObjectKey::NarInfo(path.hash()).to_string();
    let (name, path) = (name.to_string(), path.to_string());
    Ok(tx.execute("adopt a pin", ADOPT_PIN, &[&name, &key, &path]).await? > 0)
}
