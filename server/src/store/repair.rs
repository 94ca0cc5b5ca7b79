//! Mending what `fsck` finds.

use std::time::Duration;

use niks3_core::{
    hash::{FileHash, NarHash},
    object_key::ObjectKey,
    pin_name::PinName,
    store_path::{StorePath, StorePathHash},
};
use tokio_postgres::types::ToSql;

use super::{Claim, Connection, Recorded, StoreError, Tx, read_text};

const DROP_DANGLING: &str = include_str!("sql/drop_dangling.sql");
const DROP_STRAY_HOLDS: &str = include_str!("sql/drop_stray_holds.sql");
const REVIVABLE: &str = include_str!("sql/revivable.sql");
const REPUBLISHABLE: &str = include_str!("sql/republishable.sql");
const RECORDED_BY_ID: &str = include_str!("sql/recorded_by_id.sql");
const NARINFO_TEXTS: &str = include_str!("sql/narinfo_texts.sql");
const REFERRERS: &str = include_str!("sql/referrers.sql");
const CLAIM_UNPUBLISHED: &str = include_str!("sql/claim_unpublished.sql");
const RELEASE_CLAIM: &str = include_str!("sql/release_claim.sql");
const VOID: &str = include_str!("sql/void_narinfos.sql");
const UNDO: &str = include_str!("sql/undo_paths.sql");
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

/// These objects, as far as they are said to be in the bucket.
///
/// # Errors
/// When the query fails or a key cannot be read.
pub async fn recorded_by_id(
    connection: &Connection,
    ids: &[i64],
) -> Result<Vec<Recorded>, StoreError> {
    let rows = connection.rows("look up what is stored", RECORDED_BY_ID, &[&ids]).await?;
    rows.iter().map(super::lost::read).collect()
}

/// Up to `limit` narinfos that are not in the bucket and can be sent again as they were composed. Each
/// may make others so that refer to it.
///
/// # Errors
/// When the query fails.
pub async fn republishable(tx: &Tx<'_>, limit: usize) -> Result<Vec<i64>, StoreError> {
    let rows = tx.rows("look what can be sent again", REPUBLISHABLE, &[&(limit as i64)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The recorded texts of these narinfos.
///
/// # Errors
/// When the query fails.
pub async fn narinfo_texts(
    connection: &Connection,
    ids: &[i64],
) -> Result<Vec<(i64, String)>, StoreError> {
    let rows = connection.rows("look up narinfos", NARINFO_TEXTS, &[&ids]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Voids narinfos: they count as not published, and nobody knows what they say. In the gate.
///
/// # Errors
/// When a query fails.
pub async fn void_narinfos(tx: &Tx<'_>, ids: &[i64]) -> Result<usize, StoreError> {
    let voided = tx.rows("void narinfos", VOID, &[&ids]).await?.len();
    tx.execute("undo paths", UNDO, &[&ids]).await?;
    Ok(voided)
}

/// These narinfos and all published ones that refer to them.
///
/// # Errors
/// When the query fails.
pub async fn referrers(tx: &Tx<'_>, ids: &[i64]) -> Result<Vec<i64>, StoreError> {
    let rows = tx.rows("look for referrers", REFERRERS, &[&ids]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Claims those of these narinfos that can go from the bucket now, referrers first, though their rows
/// stay: pushes wait meanwhile. In the gate, alone.
///
/// # Errors
/// When the query fails or a key cannot be read.
pub async fn claim_unpublished(
    tx: &Tx<'_>,
    ids: &[i64],
    fence: Duration,
) -> Result<Claim, StoreError> {
    let params: [&(dyn ToSql + Sync); 2] = [&ids, &fence.as_secs_f64()];
    let mut claim = Claim { token: 0, at: 0.0, objects: Vec::new(), spared: 0, needed: Vec::new() };
    for row in tx.rows("claim narinfos", CLAIM_UNPUBLISHED, &params).await? {
        (claim.token, claim.at) = (row.get("token"), row.get("at"));
        claim.objects.push((row.get("id"), read_text("a key", row.get("key"))?));
    }
    Ok(claim)
}

/// Ends a claim of narinfos that are not in the bucket any more; what is recorded of them stays, and is
/// published again when it can be realised. Open pushes that had done them have to do them again.
///
/// # Errors
/// When a query fails.
pub async fn release_claim(tx: &Tx<'_>, token: i64, ids: &[i64]) -> Result<(), StoreError> {
    tx.execute("release a claim", RELEASE_CLAIM, &[&token, &ids]).await?;
    tx.execute("undo paths", UNDO, &[&ids]).await.map(drop)
}

/// Whether a narinfo in the bucket can be adopted.
#[derive(Clone, Debug)]
pub struct Adoptable {
    /// Its row, locked.
    pub id: i64,
    /// Somebody holds it, is deleting it or may be writing it: not now.
    pub busy: bool,
    /// Somebody composed it meanwhile.
    pub composed: bool,
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
        busy: row.get("busy"),
        composed: row.get("composed"),
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
    describes: Option<String>,
) -> Result<Option<i64>, StoreError> {
    let sha256 = file_hash.map(|hash| hash.as_bytes().to_vec());
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

/// The rows of these narinfos.
///
/// # Errors
/// When the query fails.
pub async fn narinfo_rows(tx: &Tx<'_>, paths: &[StorePathHash]) -> Result<Vec<i64>, StoreError> {
    let keys: Vec<String> =
        paths.iter().map(|hash| ObjectKey::NarInfo(*hash).to_string()).collect();
    let sql = "SELECT o.id FROM unnest($1::text[]) AS k(key) \
               CROSS JOIN LATERAL (SELECT o.id FROM objects o WHERE o.key = k.key LIMIT 1) o";
    let rows = tx.rows("look up narinfos", sql, &[&keys]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Notes that a pin's file may say anything: whoever looks after pins writes it again.
///
/// # Errors
/// When the query fails.
pub async fn doubt_pin(connection: &Connection, name: &PinName) -> Result<(), StoreError> {
    let sql =
        "UPDATE pins SET writing_until = to_timestamp(0) WHERE name = $1 AND writing_until IS NULL";
    connection.execute("doubt a pin", sql, &[&name.to_string()]).await.map(drop)
}

/// Makes rows, as garbage, for NARs and the like in the bucket that nobody knows. Somebody may write them for
/// `writable`.
///
/// # Errors
/// When the query fails.
pub async fn adopt_garbage(
    tx: &Tx<'_>,
    objects: &[ObjectKey],
    writable: Duration,
) -> Result<(), StoreError> {
    let keys: Vec<String> = objects.iter().map(ToString::to_string).collect();
    let kinds: Vec<i16> = objects.iter().map(|key| key.kind() as i16).collect();
    let params: [&(dyn ToSql + Sync); 3] = [&keys, &kinds, &writable.as_secs_f64()];
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
