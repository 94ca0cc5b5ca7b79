//! What a collection would do: worked out in temporary tables, in one transaction that changes nothing.

use std::time::Duration;

use niks3_core::wire::{CollectProgress, Garbage};
use tokio_postgres::types::ToSql;

use super::{StoreError, Tx, read_text};

const BEGIN: &str = include_str!("sql/preview_begin.sql");
const UPLOADS: &str = include_str!("sql/preview_uploads.sql");
const SEED: &str = include_str!("sql/preview_seed.sql");
const TAKE: &str = include_str!("sql/preview_take.sql");
const CONDEMN: &str = include_str!("sql/preview_condemn.sql");
const TOTAL: &str = include_str!("sql/preview_total.sql");
const LARGEST: &str = include_str!("sql/preview_largest.sql");

/// Objects that one statement asks about.
const BATCH: i64 = 1000;

/// Objects that are named.
const NAMED: i64 = 10;

/// Works out what a collection would do now. Objects that change meanwhile may be counted or not.
///
/// # Errors
/// When a query fails or a key cannot be read.
pub async fn preview(
    tx: &Tx<'_>,
    silent: Duration,
    pushed_before: f64,
    (grace, force): (Duration, bool),
) -> Result<CollectProgress, StoreError> {
    tx.batch("begin a preview", BEGIN).await?;
    let uploads = tx.rows("preview uploads", UPLOADS, &[&silent.as_secs_f64()]).await?;
    let failed = uploads.iter().filter(|row| row.get("open")).count();
    let uploads: Vec<i64> = uploads.iter().map(|row| row.get("number")).collect();
    let seeded = tx.rows("preview closures", SEED, &[&pushed_before, &uploads]).await?;
    let expired = seeded.first().map_or(0, |row| row.get::<_, i64>(0));
    loop {
        let ids = tx.rows("preview candidates", TAKE, &[&BATCH]).await?;
        let ids: Vec<i64> = ids.iter().map(|row| row.get(0)).collect();
        if ids.is_empty() {
            break;
        }
        tx.execute("preview condemning", CONDEMN, &[&ids, &uploads]).await?;
    }
    let grace = grace.as_secs_f64();
    let total = tx.rows("preview the total", TOTAL, &[&grace, &force]).await?;
    let count = |n: usize| total.first().map_or(0, |row| row.get::<_, i64>(n)) as u64;
    let params: [&(dyn ToSql + Sync); 2] = [&grace, &NAMED];
    let largest = tx.rows("preview the largest", LARGEST, &params).await?;
    let largest = largest.iter().map(|row| {
        Ok(Garbage {
            key: read_text("a key", row.get("key"))?,
            store_path: row.get("store_path"),
            bytes: row.get::<_, Option<i64>>("size").unwrap_or(0) as u64,
        })
    });
    Ok(CollectProgress {
        failed_uploads_deleted: failed as u64,
        old_closures_deleted: expired as u64,
        objects_marked_for_deletion: count(0),
        bytes_marked: count(1),
        objects_deleted_after_grace_period: count(2),
        bytes_freed: count(3),
        objects_spared: count(4),
        largest: largest.collect::<Result<_, StoreError>>()?,
        ..CollectProgress::default()
    })
}
