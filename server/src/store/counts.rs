//! How much is in the bucket, without looking at all of it.

use super::{Connection, Store, StoreError, Tx};

const CACHE_SIZE: &str = include_str!("sql/cache_size.sql");
const COMPACT: &str = include_str!("sql/compact_counts.sql");

/// Changes that one transaction adds up.
const COMPACT_CHUNK: usize = 10_000;

/// How many objects are in the bucket, and the bytes of those whose size is known: NARs and listings.
///
/// # Errors
/// When the query fails.
pub async fn cache_size(connection: &Connection) -> Result<(u64, u64), StoreError> {
    let rows = connection.rows("add up what is stored", CACHE_SIZE, &[]).await?;
    let sum = |column: &str| rows.first().map_or(0, |row| row.get::<_, i64>(column)).max(0) as u64;
    Ok((sum("objects"), sum("bytes")))
}

/// Makes one row of the changes that have piled up, of some thousands at a time. `true`: there may be
/// more. Waits for nobody and holds up nobody; the sum is the same at every moment.
///
/// # Errors
/// When the query fails.
pub async fn compact_counts(tx: &Tx<'_>) -> Result<bool, StoreError> {
    let rows = tx.rows("compact counts", COMPACT, &[&(COMPACT_CHUNK as i64)]).await?;
    let compacted: i64 = rows.first().map_or(0, |row| row.get(0));
    Ok(compacted as usize == COMPACT_CHUNK)
}

/// The same until nothing is left to add up.
///
/// # Errors
/// When the database fails.
pub async fn compact_all_counts(store: &Store) -> Result<(), StoreError> {
    let mut connection = store.connection().await?;
    loop {
        let tx = connection.begin().await?;
        let more = compact_counts(&tx).await?;
        tx.commit().await?;
        if !more {
            return Ok(());
        }
    }
}
