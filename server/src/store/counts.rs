//! STUB until merged.
use super::{Connection, StoreError};
use niks3_core::wire::CacheSize;
/// x
/// # Errors
/// x
pub async fn cache_size(connection: &Connection) -> Result<CacheSize, StoreError> {
    let rows = connection.rows("count", "SELECT coalesce(sum(objects),0)::bigint, coalesce(sum(bytes),0)::bigint FROM count_changes", &[]).await?;
    Ok(rows
        .first()
        .map(|r| CacheSize { objects: r.get::<_, i64>(0) as u64, bytes: r.get::<_, i64>(1) as u64 })
        .unwrap_or_default())
}
