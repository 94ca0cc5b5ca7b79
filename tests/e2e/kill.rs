//! kill -9 at any moment: readers go on, and the next push completes.

use std::time::Duration;

use crate::support::{Nix, NixStore, Random, TestCache, assert_same_tree, fixture, rounds};

/// Longer than a push of the fixture takes, so that some are killed late, or not at all.
const LATEST_KILL_MS: u64 = 400;

async fn fresh(salt: u64) -> (NixStore, Vec<String>) {
    let store = NixStore::new(Nix::any());
    let salt = salt.to_string();
    let roots = store.build(&fixture(), &["-A", "all", "--argstr", "salt", &salt]).await;
    (store, roots)
}

async fn assert_complete(cache: &TestCache, store: &NixStore, roots: &[String]) {
    cache.push(store, roots).await.ok();
    cache.assert_consistent().await;
    let reader = NixStore::new(&store.nix);
    reader.substitute(cache.bucket.reader(), roots).await.ok();
    for root in roots {
        assert_same_tree(&store.real(root), &reader.real(root));
    }
    assert_eq!(cache.push(store, roots).await.ok().stderr.matches("nothing to send").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_leaves_a_cache_that_readers_can_use() {
    let mut random = Random::new("client kills");
    let cache = TestCache::start().await;
    for round in 0..rounds(3) {
        let (store, roots) = fresh(round).await;
        for _ in 0..3 {
            let mut push = cache.command(&store, "push", &roots).spawn().unwrap();
            tokio::time::sleep(Duration::from_millis(random.below(LATEST_KILL_MS))).await;
            let _ = push.kill().await;
            cache.bucket.assert_consistent().await;
        }
        assert_complete(&cache, &store, &roots).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_leaves_a_cache_that_readers_can_use() {
    let mut random = Random::new("server kills");
    let mut cache = TestCache::start().await;
    for round in 0..rounds(3) {
        let (store, roots) = fresh(1000 + round).await;
        for _ in 0..3 {
            let mut push = cache.command(&store, "push", &roots).spawn().unwrap();
            tokio::time::sleep(Duration::from_millis(random.below(LATEST_KILL_MS))).await;
            cache.server.kill().await;
            let _ = push.kill().await;
            cache.bucket.assert_consistent().await;
            cache.server.restart().await;
        }
        assert_complete(&cache, &store, &roots).await;
    }
}
