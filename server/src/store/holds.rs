//! What an upload keeps alive, and letting go of it.

use super::{StoreError, Tx};

/// Rows that one transaction takes hold of or lets go: no transaction is long.
pub const RELEASE_CHUNK: usize = 2000;

const RELEASE: &str = include_str!("sql/release_holds.sql");
const FORGET: &str = include_str!("sql/forget_upload_paths.sql");

/// Lets go of up to [`RELEASE_CHUNK`] objects of a finished upload; what nothing else needs
/// becomes a candidate for garbage collection in the same statement, so a crash forgets none.
/// Inside the gate. Returns how many were let go: fewer than the chunk, and all is done.
///
/// # Errors
/// When the query fails.
pub async fn release(tx: &Tx<'_>, upload: i64) -> Result<usize, StoreError> {
    let rows = tx.rows("release holds", RELEASE, &[&upload, &(RELEASE_CHUNK as i64)]).await?;
    let released: i64 = rows.first().map_or(0, |row| row.get(0));
    Ok(released as usize)
}

/// Forgets what a finished upload said of its paths and attachments, up to [`RELEASE_CHUNK`] of either.
/// Returns how many they were of that of which there were more.
///
/// # Errors
/// When the query fails.
pub async fn forget_paths(tx: &Tx<'_>, upload: i64) -> Result<usize, StoreError> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&upload, &(RELEASE_CHUNK as i64)];
    let rows = tx.rows("forget an upload's paths", FORGET, &params).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0)) as usize)
}
