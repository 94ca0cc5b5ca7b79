//! The accidents that caches have had, each made to happen. `docs/gc.md` numbers them.

use std::time::Duration;

use serde_json::json;

use crate::{
    gc::{ALL_URLS_EXPIRED, everything, short_lived},
    support::{Fault, Graph, HandPush, S3Proxy, Seen, ServerOptions, TestCache, each, first},
};

/// What tells a batch of deletes.
fn deletes_batch(seen: &Seen) -> bool {
    seen.method == "POST" && seen.query.contains_key("delete")
}

/// Any request that deletes this key, or a batch.
pub fn deletes(key: &str) -> impl Fn(&Seen) -> bool + Send + Sync + 'static {
    let key = key.to_owned();
    move |seen| deletes_batch(seen) || (seen.method == "DELETE" && seen.key == key)
}

pub async fn short_lived_behind_proxy() -> (TestCache, S3Proxy) {
    let proxy = S3Proxy::start().await;
    let options = ServerOptions { s3_endpoint: Some(proxy.endpoint()), ..short_lived() };
    (TestCache::start_with(options).await, proxy)
}

/// Nothing is old: only what expires by itself goes.
const EXPIRE: &str = "UPDATE closures SET pushed_at = now() - interval '1 day'";

impl TestCache {
    /// Everything is gone, rows and objects.
    pub async fn assert_empty(&self) {
        let keys = self.bucket.keys().await;
        let ours = |key: &&String| *key != "nix-cache-info" && !key.starts_with("generation/");
        let left: Vec<&String> = keys.iter().filter(ours).collect();
        assert!(left.is_empty(), "{left:?}");
        for table in ["objects", "refs", "narinfos", "closures", "holds", "candidates"] {
            assert_eq!(self.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
        }
    }

    /// Nobody writes anything: all that was sent has been answered, so no URL has to be waited for.
    pub async fn quiet(&self) {
        let quiet = "UPDATE objects SET writable_until = NULL";
        self.sql().await.batch_execute(quiet).await.unwrap();
    }

    pub async fn push_by_hand(&self, graph: &Graph, root: usize) {
        HandPush::push(&self.server.url(), graph, &[root]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plan_found_is_not_collected_before_its_commit() {
    let cache = TestCache::start_with(short_lived()).await;
    let mut graph = Graph::chain(&["lib", "old"]);
    cache.push_by_hand(&graph, 1).await;
    let new = graph.add("new", "contents of new", &[0]);
    // Planned while `lib` belongs to `old` alone, and then that goes.
    let push = HandPush::plan(&cache.server.url(), &graph, &[new]).await.unwrap();
    assert_eq!(push.missing.len(), 1);
    cache.quiet().await;
    cache.sql().await.batch_execute(EXPIRE).await.unwrap();
    let progress = cache
        .collected(&json!({
        "older_than": 3600, "failed_uploads_older_than": 3600, "force": true}))
        .await;
    assert_eq!(progress["old-closures-deleted"], 1);
    let keys = cache.bucket.keys().await;
    assert!(keys.contains(&graph.narinfo(0)), "the push holds what it found");
    assert!(!keys.contains(&graph.narinfo(1)), "{progress}");
    push.send().await.unwrap();
    push.commit().await.unwrap();
    cache.assert_consistent().await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_what_is_being_deleted_waits_and_sends_it_again() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    let graph = Graph::chain(&["lib", "app"]);
    cache.push_by_hand(&graph, 1).await;
    cache.quiet().await;
    // Claimed, and S3 takes its time: the push comes in between.
    proxy.set(each(deletes(&graph.narinfo(1)), Fault::latency(1000)));
    let push = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        cache.push_by_hand(&graph, 1).await;
    };
    let everything = everything();
    let (progress, ()) = tokio::join!(cache.collected(&everything), push);
    proxy.heal();
    assert!(progress["objects-deleted-after-grace-period"].as_u64().unwrap() > 0, "{progress}");
    cache.assert_consistent().await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 2);
    assert_eq!(cache.count("SELECT count(*) FROM objects WHERE claimed_at IS NOT NULL").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_dies_with_claims_holds_pushes_up_only_while_it_could_delete() {
    let (mut cache, proxy) = short_lived_behind_proxy().await;
    let twin = cache.server.twin().await;
    let graph = Graph::chain(&["lib", "app"]);
    cache.push_by_hand(&graph, 1).await;
    cache.quiet().await;
    // Its requests are on their way, and arrive when their URLs have expired.
    proxy.set(each(deletes(&graph.narinfo(1)), Fault::latency(20_000)));
    let (status, _) = cache.post("gc", everything().to_string()).await;
    assert_eq!(status, 202);
    let claimed = "SELECT count(*) FROM objects WHERE claimed_at IS NOT NULL";
    while cache.count(claimed).await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cache.server.kill().await;
    HandPush::push(&twin.url(), &graph, &[1]).await.unwrap();
    assert_eq!(cache.count(claimed).await, 0);
    cache.assert_consistent().await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 2);
    // It is known that the run was cut off, and the next one goes on.
    let url = format!("{}/api/v1/gc", twin.url());
    let status = crate::support::http().get(url).bearer_auth(crate::support::TOKEN);
    let status: serde_json::Value = status.send().await.unwrap().json().await.unwrap();
    assert_eq!(status["collection"]["state"], "interrupted", "{status}");
    proxy.heal();
    cache.server.restart().await;
    cache.quiet().await;
    cache.collected(&everything()).await;
    cache.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_what_s3_did_not_delete_stays_with_it() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    let graph = Graph::chain(&["z", "y", "x"]);
    cache.push_by_hand(&graph, 2).await;
    cache.quiet().await;
    let failing = Fault::answer(500, "InternalError");
    proxy.set(each(deletes(&graph.narinfo(2)), failing));
    let progress = cache.collected(&everything()).await;
    assert_eq!(progress["objects-deleted-after-grace-period"], 0, "{progress}");
    assert_eq!(progress["objects-failed-to-delete"], 1, "{progress}");
    cache.assert_consistent().await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 3, "x still refers to y and z");
    proxy.heal();
    tokio::time::sleep(ALL_URLS_EXPIRED).await;
    cache.collected(&everything()).await;
    cache.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_delete_does_not_shorten_the_next_grace_period() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    let graph = Graph::chain(&["lib", "app"]);
    cache.push_by_hand(&graph, 1).await;
    cache.quiet().await;
    proxy.set(each(deletes(&graph.narinfo(1)), Fault::answer(500, "InternalError")));
    let progress = cache.collected(&everything()).await;
    assert_eq!(progress["objects-failed-to-delete"], 1, "{progress}");
    proxy.heal();
    // Pushed anew, and garbage anew: from now on, not from then.
    cache.push_by_hand(&graph, 1).await;
    cache.assert_consistent().await;
    cache.quiet().await;
    let grace = json!({"older_than": 0, "failed_uploads_older_than": 5});
    let progress = cache.collected(&grace).await;
    assert_eq!(progress["objects-deleted-after-grace-period"], 0, "{progress}");
    assert!(progress["objects-marked-for-deletion"].as_u64().unwrap() > 0, "{progress}");
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 2);
    tokio::time::sleep(Duration::from_secs(6)).await;
    cache.collected(&grace).await;
    cache.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fails_as_a_whole_or_in_part_is_asked_for_key_by_key() {
    let error = |key: &str, code: &str| {
        format!("<Error><Key>{key}</Key><Code>{code}</Code><Message>no</Message></Error>")
    };
    let result = |errors: String| {
        let xmlns = "http://s3.amazonaws.com/doc/2006-03-01/";
        Fault::Body(format!("<DeleteResult xmlns=\"{xmlns}\">{errors}</DeleteResult>"))
    };
    let mut graph = Graph::default();
    for name in ["a", "b", "c"] {
        graph.add(name, name, &[]);
    }
    for fault in [
        // One missing key is said to fail all of them.
        Fault::answer(500, "InternalError"),
        Fault::answer(404, "NoSuchKey"),
        Fault::answer(400, "MalformedXML"),
        // There is no such call.
        Fault::answer(501, "NotImplemented"),
        Fault::answer(405, "MethodNotAllowed"),
        Fault::ErrorIn200 { code: "InternalError" },
        // An error for one, nothing said about the others.
        result(error(&graph.narinfo(0), "InternalError")),
        result(error(&graph.narinfo(1), "AccessDenied") + &error("nar/unknown", "NoSuchKey")),
    ] {
        let (cache, proxy) = short_lived_behind_proxy().await;
        HandPush::push(&cache.server.url(), &graph, &[0, 1, 2]).await.unwrap();
        // One of them is gone already.
        cache.bucket.delete(&graph.narinfo(2)).await;
        let quiet = "UPDATE objects SET writable_until = NULL";
        cache.sql().await.batch_execute(quiet).await.unwrap();
        proxy.set(each(deletes_batch, fault.clone()));
        let progress = cache.collected(&everything()).await;
        assert_eq!(progress["objects-failed-to-delete"], 0, "{fault:?} {progress}");
        assert_eq!(progress["objects-deleted-after-grace-period"], 6, "{fault:?} {progress}");
        cache.assert_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_answered_is_not_forgotten_even_if_another_try_succeeds() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    let graph = Graph::chain(&["lib", "app"]);
    cache.push_by_hand(&graph, 1).await;
    cache.quiet().await;
    proxy.set(first(1, deletes(&graph.narinfo(1)), Fault::LoseAnswer));
    let progress = cache.collected(&everything()).await;
    assert_eq!(progress["objects-failed-to-delete"], 1, "{progress}");
    // It is gone, and its row is not: until no request can be under way any more.
    let row = format!("SELECT count(*) FROM objects WHERE key = '{}'", graph.narinfo(1));
    assert_eq!(cache.count(&row).await, 1);
    assert!(!cache.bucket.keys().await.contains(&graph.narinfo(1)));
    cache.push_by_hand(&graph, 1).await;
    cache.assert_consistent().await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 2);
    cache.quiet().await;
    cache.collected(&everything()).await;
    cache.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_proxy_is_no_answer_of_s3() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    let mut graph = Graph::default();
    graph.add("a", "a", &[]);
    graph.add("b", "b", &[]);
    HandPush::push(&cache.server.url(), &graph, &[0, 1]).await.unwrap();
    cache.quiet().await;
    // The proxy gives up, and what it has passed on goes its way. A retry would succeed.
    proxy.set(first(1, deletes_batch, Fault::AnswerAfter { status: 504, code: "" }));
    let progress = cache.collected(&everything()).await;
    assert_eq!(progress["objects-failed-to-delete"], 2, "{progress}");
    assert_eq!(progress["objects-deleted-after-grace-period"], 0, "{progress}");
    tokio::time::sleep(ALL_URLS_EXPIRED).await;
    cache.collected(&everything()).await;
    cache.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_that_wants_fewer_requests_gets_its_deletes_more_slowly() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    let graph = Graph::chain(&["lib", "app"]);
    cache.push_by_hand(&graph, 1).await;
    cache.quiet().await;
    let app = graph.narinfo(1);
    let slow = Fault::Answer { status: 503, code: "SlowDown", retry_after: None };
    proxy.set(first(2, deletes(&app), slow));
    let progress = cache.collected(&everything()).await;
    assert_eq!(progress["objects-failed-to-delete"], 0, "{progress}");
    cache.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_collected_while_the_clocks_are_apart() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    let graph = Graph::chain(&["lib", "app"]);
    cache.push_by_hand(&graph, 1).await;
    cache.quiet().await;
    for off in [-3600, 3600] {
        proxy.set(each(|_| true, Fault::ClockOff(off)));
        let run = cache.collect(&everything()).await;
        assert_eq!(run["state"], "failed", "{run}");
        assert!(run["error"].as_str().unwrap().contains("clocks"), "{run}");
        assert_eq!(cache.count("SELECT count(*) FROM closures").await, 1);
        assert_eq!(cache.count("SELECT count(condemned_at) FROM objects").await, 0);
    }
    proxy.heal();
    cache.collected(&everything()).await;
    cache.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_refers_to_itself_goes() {
    let cache = TestCache::start_with(short_lived()).await;
    let mut graph = Graph::chain(&["lib"]);
    graph.add("self", "contents of self", &[0, 1]);
    cache.push_by_hand(&graph, 1).await;
    cache.assert_consistent().await;
    cache.quiet().await;
    cache.collected(&everything()).await;
    cache.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_push_of_a_path_needs_is_what_is_kept() {
    let cache = TestCache::start_with(short_lived()).await;
    let mut ours = Graph::chain(&["first"]);
    ours.add("app", "contents of app", &[0]);
    let mut theirs = Graph::chain(&["second"]);
    theirs.add("app", "other contents of app", &[0]);
    cache.push_by_hand(&ours, 1).await;
    cache.push_by_hand(&theirs, 1).await;
    cache.quiet().await;
    let closures_stay = json!({"older_than": 3600, "failed_uploads_older_than": 0, "force": true});
    cache.collected(&closures_stay).await;
    cache.assert_consistent().await;
    // `second` was never a root and nothing in the cache refers to it.
    let narinfos = cache.bucket.keys_ending(".narinfo").await;
    assert_eq!(narinfos.len(), 2, "{narinfos:?}");
    assert!(narinfos.contains(&ours.narinfo(0)) && narinfos.contains(&ours.narinfo(1)));
    assert_eq!(cache.bucket.keys_ending(".nar.zst").await.len(), 2);
}
