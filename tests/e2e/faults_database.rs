//! Connections to the database that break, at each COMMIT and at any moment: a transaction of which
//! nobody knows whether it was committed is repeated, and the cache is complete in the end.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::support::{
    Fate, NixStore, PgProxy, Random, ServerOptions, TestCache, long_profile, rounds, shared_store,
};

/// Caches under test at once: most of the time they wait.
const AT_ONCE: usize = 8;

/// What a small push has for certain: plan 2, urls 1, stored 2, commit 3, letting go 2.
const LEAST_COMMITS: usize = 10;

/// Between two cuts, at the most. All together last about as long as a push.
const LONGEST_PAUSE_MS: u64 = 250;

/// A cache whose database is behind a proxy.
async fn start() -> (TestCache, PgProxy) {
    let proxy = PgProxy::start().await;
    let database_url = Some(proxy.database_url());
    let options = ServerOptions { database_url, ..ServerOptions::default() };
    (TestCache::start_with(options).await, proxy)
}

/// Two paths, one of which needs the other.
async fn small() -> (&'static NixStore, Vec<String>) {
    let (store, roots) = shared_store().await;
    (store, roots.iter().filter(|root| root.contains("-program-")).cloned().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_at_any_commit_costs_nothing() {
    let (store, roots) = small().await;
    let (cache, proxy) = start().await;
    let before = proxy.commits();
    cache.push(store, &roots).await.ok();
    let commits = proxy.commits() - before;
    assert!(commits >= LEAST_COMMITS, "{commits}");

    let cases = (1..=commits).flat_map(|n| [(n, Fate::Lost), (n, Fate::Committed)]);
    stream::iter(cases)
        .for_each_concurrent(AT_ONCE, async |(n, fate)| {
            let (cache, proxy) = start().await;
            proxy.cut_commit(n, fate);
            cache.push(store, &roots).await.ok();
            // How many calls report what was sent differs from push to push.
            assert!(proxy.has_cut_commit() || n > LEAST_COMMITS, "COMMIT {n} did not come");
            for table in ["holds", "upload_paths"] {
                let left = cache.count(&format!("SELECT count(*) FROM {table}")).await;
                assert_eq!(left, 0, "{table} after COMMIT {n} of {commits}: {fate:?}");
            }
            assert_eq!(cache.count("SELECT count(*) FROM closures").await, 1);
            cache.assert_complete(store, &roots).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_at_any_moment_leave_a_cache_that_readers_can_use() {
    let mut random = Random::new("database cuts");
    let (store, roots) = shared_store().await;
    let cases: Vec<Vec<u64>> =
        (0..rounds(6)).map(|_| (0..5).map(|_| random.below(LONGEST_PAUSE_MS)).collect()).collect();
    stream::iter(cases)
        .for_each_concurrent(AT_ONCE, async |pauses| {
            let (cache, proxy) = start().await;
            let cuts = async {
                for pause in &pauses {
                    tokio::time::sleep(Duration::from_millis(*pause)).await;
                    proxy.cut();
                }
            };
            let (pushed, ()) = tokio::join!(cache.push(store, roots), cuts);
            // Connections are made anew and transactions repeated, for longer than these cuts last.
            assert_eq!(pushed.code, Some(0), "cut after {pauses:?}: {}", pushed.stderr);
            cache.assert_complete(store, roots).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_waited_for_and_in_the_end_said() {
    let (store, roots) = small().await;
    let a_while = async {
        let (cache, proxy) = start().await;
        proxy.refuse(true);
        proxy.cut();
        let back = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            proxy.refuse(false);
        };
        let (pushed, ()) = tokio::join!(cache.push(store, &roots), back);
        pushed.ok();
        cache.assert_complete(store, &roots).await;
    };
    let for_good = async {
        // Five tries, each after the five seconds that the server asks for.
        if !long_profile() {
            return;
        }
        let (cache, proxy) = start().await;
        proxy.refuse(true);
        proxy.cut();
        let pushed = cache.push(store, &roots).await;
        pushed.failed(3, &["503", "the server cannot reach its database", "hint:"]);
        assert_eq!(cache.bucket.keys_ending("").await, ["nix-cache-info"]);
        proxy.refuse(false);
        cache.assert_complete(store, &roots).await;
    };
    tokio::join!(a_while, for_good);
}
