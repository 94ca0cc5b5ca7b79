//! Pins: names for closures, and what their files in the bucket say.
//!
//! The file names one of the two closures in its row, or is not there. Whoever is about to change it
//! takes the pin first, in a committed transaction; until that has run out nobody else does. So what
//! the file may say is protected at every moment, whoever dies.

use std::time::{Duration, SystemTime};

use niks3_core::{
    object_key::ObjectKey,
    pin_name::PinName,
    store_path::{StorePath, StorePathHash},
};
use tokio_postgres::{Row, types::ToSql};

use super::{Connection, StoreError, Tx, read_text};

const INSERT: &str = include_str!("sql/insert_pin.sql");
const LOCK: &str = include_str!("sql/lock_pin.sql");
const TAKE: &str = include_str!("sql/take_pin.sql");
const NOTE_FILE: &str = include_str!("sql/note_pin_file.sql");
const NOTE_FAILURE: &str = include_str!("sql/note_pin_failure.sql");
const FORGET: &str = include_str!("sql/forget_pin.sql");
const NOTE_UNPINNED: &str = include_str!("sql/note_unpinned.sql");
const PINNABLE: &str = include_str!("sql/pinnable.sql");
const PINS_OF: &str = include_str!("sql/pins_of.sql");
const LIST: &str = include_str!("sql/list_pins.sql");
const DUE: &str = include_str!("sql/due_pins.sql");

/// What a pin is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The closure's row.
    pub id: i64,
    /// Its root.
    pub path: StorePath,
}

/// A pin's row, locked by the transaction that read it.
#[derive(Clone, Debug)]
pub struct LockedPin {
    /// What it pins. `None`: it is being deleted.
    pub target: Option<Target>,
    /// The closure that the file names, or named.
    filed: Option<i64>,
    /// The file may name either.
    unsure: bool,
    /// Somebody may be changing the file at this moment.
    pub writing: bool,
}

/// A pin whose file its holder may change.
#[derive(Clone, Debug)]
pub struct TakenPin {
    /// Its name.
    pub name: PinName,
    /// What its file shall say. `None`: there shall be none.
    pub target: Option<Target>,
    /// The other closure that the file may name.
    filed: Option<i64>,
    /// The database's time, in seconds since 1970: what the request is to be signed with.
    pub signed_at: f64,
    /// Until when nobody else takes it.
    until: SystemTime,
    /// When it was moved to its target.
    pub moved_at: u64,
}

/// What the cache has under the hash of a path that shall be pinned.
#[derive(Clone, Debug)]
pub struct Pinnable {
    /// Its row.
    pub id: i64,
    /// It was pushed as a root.
    pub pushed: bool,
    /// Its narinfo is in the bucket.
    pub stored: bool,
    /// The path, if it is composed.
    pub path: Option<StorePath>,
}

impl LockedPin {
    /// Its file is not right, or not surely, and nobody is changing it.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let wanted = self.target.as_ref().map(|target| target.id);
        !self.writing && (self.unsure || self.filed != wanted)
    }

    /// It is deleted and so is its file; the row is there for what may still be under way.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.target.is_none() && self.filed.is_none()
    }

    /// The closure besides `target` that the file may name, if there is only one: two have no place
    /// in a row. `Err`: the file has to be put right first.
    ///
    /// # Errors
    /// See above.
    pub fn besides(&self, target: Option<&Target>) -> Result<Option<i64>, Unsure> {
        let unsure = self.target.as_ref().map(|target| target.id).filter(|_| self.unsure);
        let mut named = self.filed.into_iter().chain(unsure);
        let mut named = named.by_ref().filter(|id| target.is_none_or(|target| target.id != *id));
        match (named.next(), named.next()) {
            (Some(one), Some(other)) if one != other => Err(Unsure),
            (one, _) => Ok(one),
        }
    }
}

/// The file may name either of two closures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsure;

/// Makes a row for a pin that has none, for this transaction to fill in. Before the gate: it waits for
/// another call that makes the same pin.
///
/// # Errors
/// When the query fails.
pub async fn insert_pin(tx: &Tx<'_>, name: &PinName) -> Result<(), StoreError> {
    tx.execute("insert a pin", INSERT, &[&name.to_string()]).await.map(drop)
}

/// Locks a pin's row. Before the gate.
///
/// # Errors
/// When the query fails or the row cannot be read.
pub async fn lock_pin(tx: &Tx<'_>, name: &PinName) -> Result<Option<LockedPin>, StoreError> {
    let rows = tx.rows("lock a pin", LOCK, &[&name.to_string()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let path: Option<String> = row.get("store_path");
    let target = match row.get::<_, Option<i64>>("object_id") {
        None => None,
        Some(id) => {
            let path = read_text("a pin's store path", path.as_deref().unwrap_or_default())?;
            Some(Target { id, path })
        }
    };
    let (filed, unsure) = (row.get("filed"), row.get("unsure"));
    Ok(Some(LockedPin { target, filed, unsure, writing: row.get("writing") }))
}

/// What the cache has under this hash. Inside the gate, what it says stays true until the transaction
/// ends.
///
/// # Errors
/// [`StoreError::Claimed`] when it is being deleted.
pub async fn pinnable(tx: &Tx<'_>, path: StorePathHash) -> Result<Option<Pinnable>, StoreError> {
    let key = ObjectKey::NarInfo(path).to_string();
    let rows = tx.rows("look up what to pin", PINNABLE, &[&key]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    if row.get("claimed") {
        return Err(StoreError::Claimed(row.get("key")));
    }
    let path: Option<String> = row.get("store_path");
    Ok(Some(Pinnable {
        id: row.get("id"),
        pushed: row.get("pushed"),
        stored: row.get("stored"),
        path: path.map(|path| read_text("a store path", &path)).transpose()?,
    }))
}

/// Says what a locked pin is for from now on, and takes it for `time`: to be committed before its file
/// is touched. `filed` is [what else](LockedPin::besides) the file may name. Inside the gate, if the
/// target is another one than before.
///
/// # Errors
/// When a query fails.
pub async fn take_pin(
    tx: &Tx<'_>,
    name: PinName,
    before: &LockedPin,
    target: Option<Target>,
    filed: Option<i64>,
    time: Duration,
) -> Result<TakenPin, StoreError> {
    let id = target.as_ref().map(|target| target.id);
    let path = target.as_ref().map(|target| target.path.to_string());
    let params: [&(dyn ToSql + Sync); 5] =
        [&name.to_string(), &id, &path, &filed, &time.as_secs_f64()];
    let rows = tx.rows("take a pin", TAKE, &params).await?;
    let gone = || StoreError::Corrupt { what: "a pin", text: name.to_string() };
    let row = rows.first().ok_or_else(gone)?;
    let let_go = before.target.as_ref().map(|target| target.id);
    let let_go = let_go.filter(|before| Some(*before) != id && Some(*before) != filed);
    note_unpinned(tx, let_go).await?;
    Ok(TakenPin {
        signed_at: row.get("at"),
        until: row.get("writing_until"),
        moved_at: seconds(row, "moved_at"),
        name,
        target,
        filed,
    })
}

/// Notes that the file is as it shall be; `under_way`: an earlier request to the same end may still
/// arrive, so nobody else takes the pin yet. `false`: somebody else has taken it since. Inside the gate.
///
/// # Errors
/// When a query fails.
pub async fn note_pin_file(
    tx: &Tx<'_>,
    taken: &TakenPin,
    under_way: bool,
) -> Result<bool, StoreError> {
    let (name, id) = (taken.name.to_string(), taken.target.as_ref().map(|target| target.id));
    let params: [&(dyn ToSql + Sync); 4] = [&name, &taken.until, &id, &under_way];
    if tx.execute("note a pin's file", NOTE_FILE, &params).await? == 0 {
        return Ok(false);
    }
    note_unpinned(tx, taken.filed.filter(|filed| Some(*filed) != id)).await?;
    if taken.target.is_none() {
        tx.execute("forget a pin", FORGET, &[&name]).await?;
    }
    Ok(true)
}

/// Notes that the file was not changed, or not surely, and that nothing is under way any more.
///
/// # Errors
/// When the query fails.
pub async fn note_pin_failure(tx: &Tx<'_>, taken: &TakenPin) -> Result<(), StoreError> {
    let params: [&(dyn ToSql + Sync); 2] = [&taken.name.to_string(), &taken.until];
    tx.execute("note a pin's failure", NOTE_FAILURE, &params).await.map(drop)
}

/// What a pin lets go of may be garbage: a closure never is, but an administrator may have had it
/// forgotten while it was pinned.
async fn note_unpinned(tx: &Tx<'_>, object: Option<i64>) -> Result<(), StoreError> {
    let objects: Vec<i64> = object.into_iter().collect();
    if objects.is_empty() {
        return Ok(());
    }
    tx.execute("note what is unpinned", NOTE_UNPINNED, &[&objects]).await.map(drop)
}

/// The pins that keep a closure, those included whose file may still name it.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn pins_of(tx: &Tx<'_>, closure: i64) -> Result<Vec<PinName>, StoreError> {
    read_names(&tx.rows("look up a closure's pins", PINS_OF, &[&closure]).await?)
}

/// Up to `limit` pins by name, those after `after`; where each is, and since when.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn list_pins(
    connection: &Connection,
    after: Option<&PinName>,
    limit: usize,
) -> Result<Vec<(PinName, StorePath, u64)>, StoreError> {
    let params: [&(dyn ToSql + Sync); 2] = [&text(after), &(limit as i64)];
    let rows = connection.rows("list pins", LIST, &params).await?;
    let read = |row: &Row| {
        let path = read_text("a pin's store path", row.get("store_path"))?;
        Ok((read_name(row)?, path, seconds(row, "moved_at")))
    };
    rows.iter().map(read).collect()
}

/// Up to `limit` pins after `after` whose files are not right, or not surely, and which nobody has
/// taken.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn due_pins(
    connection: &Connection,
    after: Option<&PinName>,
    limit: usize,
) -> Result<Vec<PinName>, StoreError> {
    let params: [&(dyn ToSql + Sync); 2] = [&text(after), &(limit as i64)];
    read_names(&connection.rows("look for pins to complete", DUE, &params).await?)
}

/// Before all names comes the empty text.
fn text(after: Option<&PinName>) -> String {
    after.map(ToString::to_string).unwrap_or_default()
}

fn read_names(rows: &[Row]) -> Result<Vec<PinName>, StoreError> {
    rows.iter().map(read_name).collect()
}

fn read_name(row: &Row) -> Result<PinName, StoreError> {
    read_text("a pin's name", row.get("name"))
}

/// Seconds since 1970.
pub(super) fn seconds(row: &Row, column: &str) -> u64 {
    let time: SystemTime = row.get(column);
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_room_for_two_closures_and_no_third() {
        let target =
            |id| Target { id, path: "26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello".parse().unwrap() };
        let (one, two, three) = (target(1), target(2), target(3));
        let pin =
            |filed, unsure| LockedPin { target: Some(target(2)), filed, unsure, writing: false };
        // In order: the file names what it should.
        assert_eq!(pin(Some(2), false).besides(Some(&three)), Ok(Some(2)));
        assert_eq!(pin(Some(2), false).besides(None), Ok(Some(2)));
        assert_eq!(pin(Some(2), true).besides(Some(&two)), Ok(None));
        // New, and its file may be there or not.
        assert_eq!(pin(None, true).besides(Some(&three)), Ok(Some(2)));
        assert_eq!(pin(None, true).besides(None), Ok(Some(2)));
        // Moved from 1 to 2, and nobody knows which of them the file names.
        assert_eq!(pin(Some(1), true).besides(Some(&three)), Err(Unsure));
        assert_eq!(pin(Some(1), true).besides(None), Err(Unsure));
        assert_eq!(pin(Some(1), true).besides(Some(&two)), Ok(Some(1)));
        assert_eq!(pin(Some(1), true).besides(Some(&one)), Ok(Some(2)));
        // Being deleted.
        let deleting = LockedPin { target: None, ..pin(Some(1), true) };
        assert_eq!(deleting.besides(Some(&three)), Ok(Some(1)));
        assert_eq!(deleting.besides(None), Ok(Some(1)));
    }
}
