//! Garbage collection removes what nothing needs, and nothing else.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Fault, Graph, HandPush, ServerOptions, TestCache, each, shared_store};

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
        assert_eq!(run["state"], "finished", "{run}");
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
    cache.quiet().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_can_write_is_spared_even_by_force_and_counted() {
    let cache = TestCache::start().await;
    let graph = Graph::chain(&["lib", "app"]);
    HandPush::push(&cache.server.url(), &graph, &[1]).await.unwrap();
    // URLs of half an hour are out.
    let progress = cache.collected(&everything()).await;
    assert_eq!(progress["objects-marked-for-deletion"], 4, "{progress}");
    assert_eq!(progress["objects-deleted-after-grace-period"], 0, "{progress}");
    // Of app alone: what it refers to is not looked at while its row is there.
    assert_eq!(progress["objects-spared"], 1, "{progress}");
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_deleted_when_it_has_been_garbage_for_long_enough() {
    let cache = TestCache::start_with(short_lived()).await;
    let graph = Graph::chain(&["lib", "app"]);
    HandPush::push(&cache.server.url(), &graph, &[1]).await.unwrap();
    cache.quiet().await;
    let with_grace = json!({"older_than": 0, "failed_uploads_older_than": 3600});
    let progress = cache.collected(&with_grace).await;
    assert_eq!(progress["objects-marked-for-deletion"], 4, "{progress}");
    assert_eq!(progress["objects-deleted-after-grace-period"], 0, "{progress}");
    // Readers that have just read a narinfo can still get all of it.
    cache.assert_consistent().await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 2);
    let older = "UPDATE objects SET condemned_at = condemned_at - interval '61 minutes'";
    cache.sql().await.batch_execute(older).await.unwrap();
    let progress = cache.collected(&with_grace).await;
    assert_eq!(progress["objects-marked-for-deletion"], 0, "{progress}");
    assert_eq!(progress["objects-deleted-after-grace-period"], 4, "{progress}");
    assert!(cache.bucket.keys_ending(".narinfo").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_has_failed_lets_go_and_its_objects_go() {
    let cache = TestCache::start_with(short_lived()).await;
    let server = cache.server.url();
    let mut graph = Graph::chain(&["lib", "app"]);
    HandPush::push(&server, &graph, &[1]).await.unwrap();
    let new = graph.add("new", "contents of new", &[0]);
    // Its client is never heard of again; another has given up.
    let lost = HandPush::plan(&server, &graph, &[new]).await.unwrap();
    lost.send().await.unwrap();
    let given_up = HandPush::plan(&server, &graph, &[new]).await.unwrap();
    given_up.abandon().await.unwrap();
    let failed = |seconds: u64| json!({"older_than": 3600, "failed_uploads_older_than": seconds, "force": true});
    let progress = cache.collected(&failed(3600)).await;
    assert_eq!(progress["failed-uploads-deleted"], 0, "it may come back: {progress}");
    // Three times the lifetime of a URL, and the slack, without a sign of life.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let progress = cache.collected(&failed(1)).await;
    assert_eq!(progress["failed-uploads-deleted"], 1, "{progress}");
    assert_eq!(progress["objects-deleted-after-grace-period"], 2, "its NAR and row: {progress}");
    assert_eq!(cache.bucket.keys_ending(".nar.zst").await.len(), 2);
    let refused = lost.commit().await.unwrap_err();
    assert_eq!(refused.status, 410, "{}", refused.text);
    for table in ["holds", "upload_paths"] {
        assert_eq!(cache.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    cache.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_go_and_changes_nothing() {
    let cache = TestCache::start_with(short_lived()).await;
    let server = cache.server.url();
    let mut graph = Graph::chain(&["lib", "app"]);
    let other = graph.add("other", "contents of other", &[0]);
    HandPush::push(&server, &graph, &[1, other]).await.unwrap();
    let old = format!(
        "UPDATE closures SET pushed_at = now() - interval '2 hours' WHERE object_id = \
         (SELECT id FROM objects WHERE key = '{}')",
        graph.narinfo(1)
    );
    cache.sql().await.batch_execute(&old).await.unwrap();
    cache.quiet().await;
    let mut parameters = json!({"older_than": 3600, "failed_uploads_older_than": 0, "force": true,
                                "dry_run": true});
    let tables = "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM \
                  (SELECT o::text FROM objects o UNION ALL SELECT c::text FROM closures c \
                   UNION ALL SELECT c::text FROM candidates c UNION ALL SELECT r::text FROM refs r) t";
    let rows = async || cache.sql().await.query_one(tables, &[]).await.unwrap().get::<_, String>(0);
    let (keys, before) = (cache.bucket.keys().await, rows().await);
    let would = cache.collected(&parameters).await;
    assert_eq!(rows().await, before);
    assert_eq!(cache.bucket.keys().await, keys);
    assert_eq!(would["old-closures-deleted"], 1, "{would}");
    assert_eq!(would["objects-marked-for-deletion"], 2, "app and its NAR: {would}");
    assert_eq!(would["objects-deleted-after-grace-period"], 2, "{would}");
    assert_eq!(would["largest"][0]["store_path"], graph.0[1].path.to_string(), "{would}");
    // What is then done is what was said.
    parameters["dry_run"] = json!(false);
    let did = cache.collected(&parameters).await;
    for figure in [
        "old-closures-deleted",
        "objects-marked-for-deletion",
        "bytes-freed",
        "objects-deleted-after-grace-period",
        "bytes-marked",
    ] {
        assert_eq!(would[figure], did[figure], "{figure}: {would} {did}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_at_a_time_and_whoever_asks_for_the_same_joins_it() {
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    let twin = cache.server.twin().await;
    let graph = Graph::chain(&["lib", "app"]);
    HandPush::push(&cache.server.url(), &graph, &[1]).await.unwrap();
    cache.sql().await.batch_execute("UPDATE objects SET writable_until = NULL").await.unwrap();
    let (status, none) = cache.get("gc").await;
    assert_eq!((status, none.get("collection")), (200, None), "{none}");
    assert_eq!(none["cache"]["objects"], 4);
    proxy.set(each(|seen| seen.method == "DELETE", Fault::latency(1500)));
    let (status, first) = cache.post("gc", everything().to_string()).await;
    assert_eq!(status, 202);
    let at_twin = async |parameters: Value| {
        let request = crate::support::http().post(format!("{}/api/v1/gc", twin.url()));
        let request = request.bearer_auth(crate::support::TOKEN).body(parameters.to_string());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, second) = at_twin(everything()).await;
    assert_eq!((status, &second["number"]), (202, &first["number"]));
    let (status, other) = at_twin(json!({"older_than": 5, "failed_uploads_older_than": 5})).await;
    assert_eq!(status, 409, "{other}");
    assert!(other["error"].as_str().unwrap().contains("other settings"), "{other}");
    // Nobody waits for it, and it goes on.
    loop {
        let (_, now) = cache.get("gc").await;
        if now["collection"]["state"] == "finished" {
            assert_eq!(now["collection"]["number"], first["number"]);
            assert_eq!(now["cache"]["objects"], 0, "{now}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The last run is remembered beyond the server's end.
    let mut cache = cache;
    cache.server.terminate().await;
    cache.server.restart().await;
    let (_, after) = cache.get("gc").await;
    assert_eq!(after["collection"]["number"], first["number"], "{after}");
    assert_eq!(after["collection"]["progress"]["objects-deleted-after-grace-period"], 4);
}
