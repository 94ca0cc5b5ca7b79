//! kill -9 at any moment: readers go on, and the next push completes.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::support::{NixStore, Random, TestCache, assert_same_tree, rounds, shared_store};

/// Longer than a push of the fixture takes, so that some are killed late, or not at all.
const LATEST_KILL_MS: u64 = 500;

/// Rounds with one cache: each goes on where the kill before ended. Then the push is completed.
const ROUNDS_OF_A_CACHE: usize = 3;

/// Caches under test at once.
const AT_ONCE: usize = 3;

/// When to kill in each round, cache by cache.
fn moments(test: &str) -> Vec<Vec<Duration>> {
    let mut random = Random::new(test);
    let moments: Vec<Duration> =
        (0..rounds(15)).map(|_| Duration::from_millis(random.below(LATEST_KILL_MS))).collect();
    moments.chunks(ROUNDS_OF_A_CACHE).map(<[Duration]>::to_vec).collect()
}

async fn assert_readable(cache: &TestCache) {
    cache.bucket.assert_consistent().await;
    cache.assert_realisable().await;
}

async fn assert_complete(cache: &TestCache, store: &NixStore, roots: &[String]) {
    cache.assert_complete(store, roots).await;
    let reader = NixStore::new(&store.nix);
    reader.substitute(cache.bucket.reader(), roots).await.ok();
    for root in roots {
        assert_same_tree(&store.real(root), &reader.real(root));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_leaves_a_cache_that_readers_can_use() {
    let (store, roots) = shared_store().await;
    stream::iter(moments("client kills"))
        .for_each_concurrent(AT_ONCE, async |moments| {
            let cache = TestCache::start().await;
            for moment in moments {
                let mut push = cache.command(store, "push", roots).spawn().unwrap();
                tokio::time::sleep(moment).await;
                let _ = push.kill().await;
                assert_readable(&cache).await;
            }
            assert_complete(&cache, store, roots).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_leaves_a_cache_that_readers_can_use() {
    let (store, roots) = shared_store().await;
    stream::iter(moments("server kills"))
        .for_each_concurrent(AT_ONCE, async |moments| {
            let mut cache = TestCache::start().await;
            for (round, moment) in moments.iter().enumerate() {
                let mut push = cache.command(store, "push", roots).spawn().unwrap();
                tokio::time::sleep(*moment).await;
                cache.server.kill().await;
                // The last one is left to see it through.
                let and_the_client = round + 1 < moments.len();
                if and_the_client {
                    let _ = push.kill().await;
                }
                assert_readable(&cache).await;
                cache.server.restart().await;
                if !and_the_client {
                    // It waits for a server that it has met before, and goes on with it.
                    let code = push.wait().await.unwrap().code();
                    assert!([Some(0), Some(3)].contains(&code), "{code:?}");
                    assert_readable(&cache).await;
                }
            }
            assert_complete(&cache, store, roots).await;
        })
        .await;
}
