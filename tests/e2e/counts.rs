//! How much is in the bucket, counted as it changes.

use serde_json::json;

use crate::support::{ServerOptions, TestCache, shared_store};

/// Run by the server each minute.
const COMPACT: &str = include_str!("../../server/src/store/sql/compact_counts.sql");
const CACHE_SIZE: &str = include_str!("../../server/src/store/sql/cache_size.sql");

async fn assert_counted(cache: &TestCache) {
    let counted = cache.sql().await.query_one(CACHE_SIZE, &[]).await.unwrap();
    let there = "SELECT count(*), coalesce(sum(size), 0)::bigint FROM objects \
                 WHERE stored_at IS NOT NULL";
    let there = cache.sql().await.query_one(there, &[]).await.unwrap();
    let read = |row: &tokio_postgres::Row| -> (i64, i64) { (row.get(0), row.get(1)) };
    assert_eq!(read(&counted), read(&there));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sum_of_changes_is_what_is_stored() {
    let (store, roots) = shared_store().await;
    // What was lost is composed anew when nobody can write the old text any more.
    let options = ServerOptions::args(&["--url-lifetime", "10s", "--s3-slack", "1s"]);
    let cache = TestCache::start_with(options).await;
    assert_counted(&cache).await;
    cache.push(store, roots).await.ok();
    assert_counted(&cache).await;
    assert!(cache.count("SELECT sum(objects)::bigint FROM count_changes").await > 20);

    // What is lost, and comes back.
    for nar in cache.bucket.keys_ending(".nar.zst").await.iter().take(3) {
        cache.bucket.delete(nar).await;
    }
    let closure = store.closure(roots).await;
    let hashes: Vec<&str> = closure.iter().map(|path| &path["/nix/store/".len()..][..32]).collect();
    let (_, said) = cache.post("verify", json!({"paths": hashes}).to_string()).await;
    assert_eq!(said["lost"].as_array().unwrap().len(), 3);
    assert_counted(&cache).await;
    cache.push(store, roots).await.ok();
    assert_counted(&cache).await;

    // What a sweep does.
    let gone = "UPDATE objects SET condemned_at = now(), claimed_at = now() WHERE kind = 3; \
                DELETE FROM objects WHERE kind = 3";
    cache.sql().await.batch_execute(gone).await.unwrap();
    assert_counted(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_loses_nothing_and_waits_for_nobody() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    // Somebody has counted and does not end.
    let mut sql = cache.sql().await;
    let open = sql.transaction().await.unwrap();
    open.batch_execute(
        "INSERT INTO objects (key, kind, size, stored_at) VALUES ('x', 2, 7, now())",
    )
    .await
    .unwrap();
    let compact = async || {
        let sql = cache.sql().await;
        loop {
            sql.query(COMPACT, &[&10_000_i64]).await.unwrap();
        }
    };
    let pushes = async {
        let all = tokio::join!(cache.push(store, roots), cache.push(store, &roots[..2]));
        all.0.ok();
        all.1.ok();
    };
    tokio::select! {
        () = pushes => {}
        () = compact() => {}
        () = compact() => {}
    }
    open.commit().await.unwrap();
    cache.sql().await.query(COMPACT, &[&10_000_i64]).await.unwrap();
    assert_eq!(cache.count("SELECT count(*) FROM count_changes").await, 1);
    assert_counted(&cache).await;
    // And a row alone stays.
    cache.sql().await.query(COMPACT, &[&10_000_i64]).await.unwrap();
    assert_eq!(cache.count("SELECT count(*) FROM count_changes").await, 1);
    assert_counted(&cache).await;
}
