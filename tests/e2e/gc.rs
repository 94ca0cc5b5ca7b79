//! Garbage collection removes what nothing needs, and nothing else.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{ServerOptions, TestCache, shared_store};

/// Lifetimes so short that everything can go within a test.
pub fn short_lived() -> ServerOptions {
    ServerOptions::args(&["--url-lifetime", "3s", "--s3-slack", "2s"])
}

/// Longer than any URL of such a server may be used.
pub const ALL_URLS_EXPIRED: Duration = Duration::from_secs(7);

/// Everything that is not needed now goes, as far as nobody can write it.
pub fn everything() -> Value {
    json!({"older_than": 0, "failed_uploads_older_than": 0, "force": true})
}

impl TestCache {
    /// Runs a collection to its end; answers the run.
    pub async fn collect(&self, parameters: &Value) -> Value {
        let (status, run) = self.post("gc", parameters.to_string()).await;
        assert_eq!(status, 202, "{run}");
        loop {
            let (status, now) = self.get("gc").await;
            assert_eq!(status, 200, "{now}");
            let last = &now["collection"];
            if last["state"] != "running" {
                assert_eq!(last["number"], run["number"], "another run has come after");
                return last.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The same, and it ended well.
    pub async fn collected(&self, parameters: &Value) -> Value {
        let run = self.collect(parameters).await;
        assert_eq!(run["state"], "finished", "{run}\n{}", self.server.log());
        run["progress"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_with_all_that_only_it_needs() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start_with(short_lived()).await;
    cache.push(store, roots).await.ok();
    // Nothing is old: nothing goes, with any grace.
    let fresh = json!({"older_than": 3600, "failed_uploads_older_than": 0, "force": true});
    let progress = cache.collected(&fresh).await;
    assert_eq!(progress["objects-marked-for-deletion"], 0, "{progress}");
    assert_eq!(progress["objects-deleted-after-grace-period"], 0, "{progress}");
    cache.assert_consistent().await;

    // One root stays, the rest is old.
    let keep = roots.iter().find(|root| root.contains("-program")).unwrap();
    let closure = store.closure(std::slice::from_ref(keep)).await;
    let old = format!(
        "UPDATE closures c SET pushed_at = now() - interval '2 hours' FROM objects o \
         WHERE o.id = c.object_id AND o.key <> '{}.narinfo'",
        &keep["/nix/store/".len()..][..32]
    );
    cache.sql().await.batch_execute(&old).await.unwrap();
    tokio::time::sleep(ALL_URLS_EXPIRED).await;
    let progress = cache.collected(&fresh).await;
    assert_eq!(progress["old-closures-deleted"], roots.len() as u64 - 1, "{progress}");
    assert_eq!(progress["objects-failed-to-delete"], 0, "{progress}");
    assert_eq!(progress["objects-spared"], 0, "{progress}");
    assert_eq!(
        progress["objects-marked-for-deletion"],
        progress["objects-deleted-after-grace-period"]
    );
    assert!(progress["bytes-freed"].as_u64().unwrap() > 0);
    cache.assert_consistent().await;
    let narinfos = cache.bucket.keys_ending(".narinfo").await;
    assert_eq!(narinfos.len(), closure.len(), "what is left is the closure of {keep}");
    cache.assert_realisable().await;

    // All of it comes back with the next push.
    cache.assert_complete(store, roots).await;
    tokio::time::sleep(ALL_URLS_EXPIRED).await;
    cache.collected(&everything()).await;
    let left = cache.bucket.keys().await;
    assert!(
        left.iter().all(|key| key == "nix-cache-info" || key.starts_with("generation/")),
        "{left:?}"
    );
    assert_eq!(cache.count("SELECT count(*) FROM objects").await, 0);
    assert_eq!(cache.count("SELECT count(*) FROM refs").await, 0);
    assert_eq!(cache.count("SELECT count(*) FROM narinfos").await, 0);
}
