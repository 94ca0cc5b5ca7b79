//! Pushes that meet each other, and what garbage collection does between two looks.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{
    Fault, Graph, HandPush, Nix, NixStore, TestCache, assert_same_tree, fixture, run, shared_store,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_path_with_other_contents_at_once_ends_in_one_consistent_closure_each() {
    for _ in 0..3 {
        let (a, b) = (NixStore::new(Nix::any()), NixStore::new(Nix::any()));
        let build = ["-A", "irreproducible"];
        let (in_a, in_b) = (a.build(&fixture(), &build).await, b.build(&fixture(), &build).await);
        assert_eq!(in_a, in_b, "one store path, built twice");
        let cache = TestCache::start().await;
        let twin = cache.server.twin().await;
        let mut other = crate::support::client(&b);
        other.args(["push", "--server-url", &twin.url(), "--store", &b.root()]).args(&in_b);
        other.env("NIKS3_AUTH_TOKEN", crate::support::TOKEN);
        let (first, second) = tokio::join!(cache.push(&a, &in_a), run(&mut other));
        first.ok();
        second.ok();
        cache.assert_consistent().await;
        assert_eq!(cache.count("SELECT count(*) FROM closures").await, 1);
        // Readers get one of the two, whole.
        let reader = NixStore::new(Nix::any());
        reader.substitute(cache.bucket.reader(), &in_a).await.ok();
        let narinfo = format!("{}.narinfo", &in_a[0][11..43]);
        let composed = cache.bucket.narinfo(&narinfo).await["NarHash"].clone();
        let of_a = a.run("nix-store", &["--store", &a.root(), "-q", "--hash", &in_a[0]]).await;
        let won = if of_a.ok().stdout.trim() == composed { &a } else { &b };
        assert_same_tree(&won.real(&in_a[0]), &reader.real(&in_a[0]));
        // Whoever lost is told by the next push.
        let lost = if std::ptr::eq(won, &a) { &b } else { &a };
        let told = cache.push(lost, &in_a).await.ok();
        assert!(told.stderr.contains("with other contents"), "{}", told.stderr);
        assert!(!cache.push(won, &in_a).await.ok().stderr.contains("other contents"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pushes_of_overlapping_closures_end_in_one_cache() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    let (half, rest) = roots.split_at(roots.len() / 2);
    let all = tokio::join!(
        cache.push(store, roots),
        cache.push(store, half),
        cache.push(store, rest),
        cache.push(store, roots),
    );
    all.0.ok();
    all.1.ok();
    all.2.ok();
    all.3.ok();
    cache.assert_consistent().await;
    let closure = store.closure(roots).await.len();
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), closure);
    for table in ["holds", "upload_paths"] {
        assert_eq!(cache.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    // NARs that lost a race are remembered as garbage, and nothing else is.
    let forgotten = "SELECT count(*) FROM objects o WHERE NOT EXISTS \
        (SELECT FROM refs WHERE dst = o.id) AND NOT EXISTS \
        (SELECT FROM closures WHERE object_id = o.id) AND NOT EXISTS \
        (SELECT FROM candidates WHERE object_id = o.id)";
    assert_eq!(cache.count(forgotten).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_contents_have_one_nar() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    let mut nars = Vec::new();
    for key in cache.bucket.keys_ending(".narinfo").await {
        nars.push(cache.bucket.narinfo(&key).await["NarHash"].clone());
    }
    let paths = nars.len();
    nars.sort();
    nars.dedup();
    assert!(nars.len() < paths, "the fixture has paths with equal contents");
    assert_eq!(cache.bucket.keys_ending(".nar.zst").await.len(), nars.len());
}

/// What a collector does to the rows, without one: condemn all of a closure.
const CONDEMN: &str = "DELETE FROM closures; UPDATE objects SET condemned_at = now()";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_condemned_is_revived_with_its_references() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    cache.sql().await.batch_execute(CONDEMN).await.unwrap();
    // One root of several: its closure is revived, and nothing else. The program needs others.
    let root = roots.iter().find(|root| root.contains("-program")).unwrap();
    let again = cache.push(store, std::slice::from_ref(root)).await.ok();
    assert!(again.stderr.contains("nothing to send"), "{}", again.stderr);
    let wrong = "WITH RECURSIVE need(id) AS (SELECT object_id FROM closures UNION \
                 SELECT dst FROM need JOIN refs ON src = need.id) \
                 SELECT count(*) FROM need JOIN objects o USING (id) \
                 WHERE o.condemned_at IS NOT NULL OR o.stored_at IS NULL";
    assert_eq!(cache.count(wrong).await, 0);
    let condemned = "SELECT count(*) FROM objects WHERE condemned_at IS NOT NULL";
    assert!(cache.count(condemned).await > 0, "what else was pushed stays condemned");
    assert_eq!(cache.count("SELECT count(*) FROM closures").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_for_what_is_being_deleted() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    let sql = cache.sql().await;
    sql.batch_execute(&format!("{CONDEMN}, claimed_at = now() WHERE kind = 1")).await.unwrap();
    let started = std::time::Instant::now();
    let swept = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        // The sweep is done: objects, then rows.
        for key in cache.bucket.keys_ending(".narinfo").await {
            cache.bucket.delete(&key).await;
        }
        let gone = "DELETE FROM refs WHERE src IN (SELECT id FROM objects WHERE kind = 1); \
                    DELETE FROM narinfos; DELETE FROM objects WHERE kind = 1";
        sql.batch_execute(gone).await.unwrap();
    };
    let (pushed, ()) = tokio::join!(cache.push(store, roots), swept);
    pushed.ok();
    assert!(started.elapsed() >= Duration::from_secs(2));
    cache.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_claimed_is_a_503_that_says_when_to_come_back() {
    let cache = TestCache::start().await;
    let plan = crate::hostile::plan(&[&[], &[0]]).to_string();
    let (_, body) = cache.post("uploads", plan.clone()).await;
    assert_eq!(body["nars"], json!([0]), "both paths have the same NAR");
    let claim = "DELETE FROM holds; UPDATE objects SET claimed_at = now(), condemned_at = now()";
    cache.sql().await.batch_execute(claim).await.unwrap();
    let url = format!("{}/api/v1/uploads", cache.server.url());
    let request = crate::support::http().post(url).bearer_auth(crate::support::TOKEN).body(plan);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "5");
    assert!(answer.text().await.unwrap().contains("being deleted"));
    // It was rolled back: no hold of it is left.
    assert_eq!(cache.count("SELECT count(*) FROM holds").await, 0);
    assert_eq!(cache.count("SELECT count(*) FROM objects WHERE claimed_at IS NULL").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_push_does_not_wait_for_another_and_holds_off_a_collector_only_for_moments() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    // An upload that was opened and left there.
    let (status, _) = cache.post("uploads", crate::hostile::plan(&[&[], &[0]]).to_string()).await;
    assert_eq!(status, 200);
    cache.push(store, roots).await.ok();
    // The gate is free between transactions: a collector gets it at once.
    let gate = "SELECT pg_try_advisory_xact_lock(7956008359254516084)";
    let free: bool = cache.sql().await.query_one(gate, &[]).await.unwrap().get(0);
    assert!(free);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_at_the_gate_while_a_collector_decides() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    let mut collector = cache.sql().await;
    let batch = collector.transaction().await.unwrap();
    batch.execute("SELECT pg_advisory_xact_lock(7956008359254516084)", &[]).await.unwrap();
    let push = cache.push(store, roots);
    tokio::pin!(push);
    let early = tokio::time::timeout(Duration::from_millis(1500), &mut push).await;
    assert!(early.is_err(), "it went through a closed gate");
    batch.commit().await.unwrap();
    push.await.ok();
    cache.assert_consistent().await;
}

/// Each takes what the others have taken and not noted yet. When a taking voided the one before it, none of
/// them ever came to an end.
#[tokio::test(flavor = "multi_thread")]
async fn commits_of_the_same_paths_at_once_all_end() {
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    let names: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();
    let graph = Graph::chain(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let url = cache.server.url();
    let mut pushes = Vec::new();
    for _ in 0..6 {
        pushes.push(HandPush::plan(&url, &graph, &[graph.0.len() - 1]).await.unwrap());
    }
    for push in &pushes {
        push.send().await.unwrap();
    }
    let drawn = AtomicU64::new(0);
    proxy.set(move |seen| match seen.puts(".narinfo") {
        true => Fault::latency(100 + 137 * drawn.fetch_add(1, Ordering::Relaxed) % 400),
        false => Fault::None,
    });
    let commits = join_all(pushes.iter().map(HandPush::commit));
    let ended = tokio::time::timeout(Duration::from_secs(90), commits).await.expect("they end");
    ended.into_iter().for_each(|ended| ended.unwrap());
    cache.assert_consistent().await;
}
