//! Runs of garbage collection, as people are shown them.

use niks3_core::wire::{CollectProgress, CollectRequest, CollectState, Collection};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio_postgres::Row;

use super::{Connection, StoreError, collection_lock::COLLECTION_LOCK};

const OPEN: &str = include_str!("sql/open_collection.sql");
const LAST: &str = include_str!("sql/last_collection.sql");
const LOCKED: &str = include_str!("sql/collection_locked.sql");

/// Runs that are remembered.
const REMEMBERED: i64 = 100;

/// Notes that a run begins; the caller has the collection's lock, so whatever was under way was
/// interrupted. Answers its number and when it began: seconds since 1970, the database's clock.
///
/// # Errors
/// When a query fails.
pub async fn open_collection(
    connection: &Connection,
    parameters: &CollectRequest,
) -> Result<(i64, f64), StoreError> {
    let interrupted =
        "UPDATE collections SET finished_at = now(), error = $1 WHERE finished_at IS NULL";
    connection.execute("note interrupted runs", interrupted, &[&INTERRUPTED]).await?;
    let progress = json(&CollectProgress::default());
    let rows = connection.rows("note a run", OPEN, &[&json(parameters), &progress]).await?;
    let row = rows.first().ok_or(StoreError::NoRow("note a run"))?;
    let number: i64 = row.get(0);
    let old = "DELETE FROM collections WHERE number <= $1";
    connection.execute("forget old runs", old, &[&(number - REMEMBERED)]).await?;
    Ok((number, row.get(1)))
}

/// What stands in place of an error for a run whose server went away.
const INTERRUPTED: &str = "interrupted";

/// Notes how far a run is.
///
/// # Errors
/// When the query fails.
pub async fn note_progress(
    connection: &Connection,
    number: i64,
    progress: &CollectProgress,
) -> Result<(), StoreError> {
    let sql = "UPDATE collections SET progress = $2 WHERE number = $1";
    connection.execute("note a run's progress", sql, &[&number, &json(progress)]).await.map(drop)
}

/// Notes how a run ended.
///
/// # Errors
/// When the query fails.
pub async fn close_collection(
    connection: &Connection,
    number: i64,
    progress: &CollectProgress,
    error: Option<&str>,
) -> Result<(), StoreError> {
    let sql = "UPDATE collections SET progress = $2, error = $3, finished_at = now() \
               WHERE number = $1 AND finished_at IS NULL";
    let progress = json(progress);
    connection.execute("note a run's end", sql, &[&number, &progress, &error]).await.map(drop)
}

/// The run that is under way, or the last one.
///
/// # Errors
/// When a query fails, or a row cannot be read.
pub async fn last_collection(connection: &Connection) -> Result<Option<Collection>, StoreError> {
    let mut seen = None;
    loop {
        let rows = connection.rows("look up the last run", LAST, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let number: i64 = row.get("number");
        let finished = row.get::<_, Option<f64>>("finished_at").is_some();
        if finished {
            return read_collection(row, CollectState::Finished).map(Some);
        }
        if seen == Some(number) {
            return read_collection(row, CollectState::Interrupted).map(Some);
        }
        // A run has the lock before its row is there, and until its end is noted in it. So without the
        // lock it has just ended, as the next look says, or nobody works on it any more.
        let (high, low) = (COLLECTION_LOCK >> 32, COLLECTION_LOCK & 0xffff_ffff);
        let locked = connection.rows("look for the lock", LOCKED, &[&high, &low]).await?;
        if !locked.is_empty() {
            return read_collection(row, CollectState::Running).map(Some);
        }
        seen = Some(number);
    }
}

fn read_collection(row: &Row, state: CollectState) -> Result<Collection, StoreError> {
    let error: Option<String> = row.get("error");
    let state = match error.as_deref() {
        None => state,
        Some(INTERRUPTED) => CollectState::Interrupted,
        Some(_) => CollectState::Failed,
    };
    Ok(Collection {
        number: row.get::<_, i64>("number") as u64,
        parameters: read("a run's parameters", row.get("parameters"))?,
        started_at: row.get::<_, f64>("started_at") as u64,
        finished_at: row.get::<_, Option<f64>>("finished_at").map(|at| at as u64),
        state,
        error: error.filter(|_| state == CollectState::Failed),
        progress: read("a run's progress", row.get("progress"))?,
    })
}

/// Our own types become JSON without fail.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn read<T: DeserializeOwned>(what: &'static str, json: Value) -> Result<T, StoreError> {
    let text = json.to_string();
    serde_json::from_value(json).map_err(|_| StoreError::Corrupt { what, text })
}
