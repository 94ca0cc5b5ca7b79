//! Closures: looking at what was pushed, and ending it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    pins::{base, pin, unpin},
    support::{NixStore, ServerOptions, TestCache, shared_store},
};

/// What was lost is composed anew when nobody can write the old text any more.
const SHORT: [&str; 4] = ["--url-lifetime", "10s", "--s3-slack", "1s"];

fn url(root: &str) -> String {
    format!("closures/{}", &base(root)[..32])
}

/// Paths and bytes of a closure, as Nix knows it and as the bucket has it.
async fn measured(cache: &TestCache, store: &NixStore, root: &String) -> (u64, u64) {
    let closure = store.closure(std::slice::from_ref(root)).await;
    let mut nars = BTreeSet::new();
    for path in &closure {
        let narinfo = cache.bucket.narinfo(&format!("{}.narinfo", &base(path)[..32])).await;
        nars.insert((narinfo["URL"].clone(), narinfo["FileSize"].parse::<u64>().unwrap()));
    }
    (closure.len() as u64, nars.iter().map(|(_, bytes)| bytes).sum())
}

fn size(closure: &Value) -> (u64, u64) {
    (closure["paths"].as_u64().unwrap(), closure["bytes"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn closures_are_listed_with_their_sizes_and_pins() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    assert_eq!(pin(&cache, "main", &roots[0]).await.0, 200);
    assert_eq!(pin(&cache, "also", &roots[0]).await.0, 200);
    let uncounted = "SELECT count(*) FROM closures WHERE paths IS NULL";
    for counted_before in [false, true] {
        assert_eq!(cache.count(uncounted).await == 0, counted_before);
        let (status, body) = cache.call("GET", "closures", "").await;
        assert_eq!((status, &body["next"]), (200, &Value::Null));
        let closures = body["closures"].as_array().unwrap();
        let mut sorted: Vec<&str> = roots.iter().map(|root| base(root)).collect();
        sorted.sort_unstable();
        let paths: Vec<&str> = closures.iter().map(|c| c["path"].as_str().unwrap()).collect();
        assert_eq!(paths, sorted);
        for root in roots {
            let closure = closures.iter().find(|c| c["path"] == base(root)).unwrap();
            assert_eq!(size(closure), measured(&cache, store, root).await, "{root}");
            let pins = if *root == roots[0] { json!(["also", "main"]) } else { Value::Null };
            assert_eq!(closure["pinned_by"], pins);
            assert_eq!(cache.call("GET", &url(root), "").await, (200, closure.clone()));
        }
        let (_, rest) =
            cache.call("GET", &format!("closures?after={}", &sorted[2][..32]), "").await;
        assert_eq!(rest["closures"].as_array().unwrap().as_slice(), &closures[3..]);
    }
    cache.push(store, &roots[..1]).await.ok();
    assert_eq!(cache.count(uncounted).await, 1, "what is pushed is counted anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_closures_are_counted_and_listed_page_by_page() {
    let cache = TestCache::start().await;
    // Each needs the one before it, so that counting them is some work.
    let many = "INSERT INTO objects (id, key, kind, stored_at) \
                  SELECT n, lpad(n::text, 32, '0') || '.narinfo', 1, now() \
                  FROM generate_series(1, 500) n; \
                INSERT INTO narinfos (object_id, store_path, nar_hash, nar_id, narinfo) \
                  SELECT n, lpad(n::text, 32, '0') || '-p', '', 0, '' FROM generate_series(1, 500) n; \
                INSERT INTO refs SELECT n, n - 1 FROM generate_series(2, 500) n; \
                INSERT INTO closures SELECT n, now() FROM generate_series(1, 500) n";
    cache.sql().await.batch_execute(many).await.unwrap();
    for most in [50, 200] {
        let (mut seen, mut after, mut pages) = (0, String::new(), 0);
        loop {
            let (status, body) = cache.call("GET", &format!("closures{after}"), "").await;
            assert_eq!(status, 200, "{body}");
            let closures = body["closures"].as_array().unwrap();
            assert!(closures.len() <= most, "{} on one page", closures.len());
            for closure in closures {
                seen += 1;
                assert_eq!(size(closure), (seen, 0));
            }
            pages += 1;
            let Some(next) = body["next"].as_str() else { break };
            after = format!("?after={next}");
        }
        assert_eq!(seen, 500);
        assert!(pages >= 500 / most);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closure_is_ended_unless_it_is_pinned() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    let root = &roots[0];
    assert_eq!(pin(&cache, "main", root).await.0, 200);
    assert_eq!(pin(&cache, "also", root).await.0, 200);
    let (status, body) = cache.call("DELETE", &url(root), "").await;
    assert_eq!(status, 409);
    assert!(body["error"].as_str().unwrap().contains("pinned as also, main"), "{body}");
    for name in ["main", "also"] {
        assert_eq!(unpin(&cache, name).await.0, 204);
    }
    let noted = format!(
        "SELECT count(*) FROM candidates JOIN objects ON id = object_id WHERE key = '{}.narinfo'",
        &base(root)[..32]
    );
    assert_eq!(cache.count(&noted).await, 0, "it is a closure all the same");
    assert_eq!(cache.call("DELETE", &url(root), "").await.0, 204);
    assert_eq!(cache.count(&noted).await, 1);
    for method in ["GET", "DELETE"] {
        let (status, body) = cache.call(method, &url(root), "").await;
        assert_eq!(status, 404, "{body}");
        assert_eq!(cache.call(method, "closures/x", "").await.0, 400);
    }
    assert_eq!(cache.call("GET", "closures?after=x", "").await.0, 400);
    let (_, body) = cache.call("GET", "closures", "").await;
    assert_eq!(body["closures"].as_array().unwrap().len(), roots.len() - 1);
    assert_eq!(pin(&cache, "main", root).await.0, 404);
    // Pushed again it is one again.
    cache.push(store, std::slice::from_ref(root)).await.ok();
    assert_eq!(pin(&cache, "main", root).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_closure_has_lost_does_not_count_until_it_is_back() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start_with(ServerOptions::args(&SHORT)).await;
    cache.push(store, roots).await.ok();
    let of = |end: &str| roots.iter().find(|root| root.ends_with(end)).unwrap();
    let (top, lost) = (of("-top"), of("-tree"));
    let whole = measured(&cache, store, top).await;
    let nar = cache.bucket.narinfo(&format!("{}.narinfo", &base(lost)[..32])).await;
    assert_eq!(pin(&cache, "main", lost).await.0, 200);
    cache.bucket.delete(&nar["URL"]).await;
    let verify = json!({"paths": [&base(lost)[..32]]}).to_string();
    let (_, said) = cache.post("verify", verify).await;
    assert_eq!(said["lost"].as_array().unwrap().len(), 1);

    // The root itself: nobody knows its name, so it is not listed.
    let (status, body) = cache.call("GET", &url(lost), "").await;
    assert_eq!(status, 409, "{body}");
    assert!(body["error"].as_str().unwrap().contains("push it again"), "{body}");
    let (_, body) = cache.call("GET", "closures", "").await;
    assert_eq!(body["closures"].as_array().unwrap().len(), roots.len() - 1);
    // A pin knows what it is for.
    let (_, pins) = cache.call("GET", "pins", "").await;
    assert_eq!(pins["pins"][0]["path"], json!(base(lost)));
    assert_eq!(pin(&cache, "new", lost).await.0, 409);

    let (_, closure) = cache.call("GET", &url(top), "").await;
    assert!(size(&closure).0 < whole.0 && size(&closure).1 < whole.1, "{closure}");
    let kept = format!(
        "SELECT count(*) FROM closures JOIN objects ON id = object_id \
         WHERE key = '{}.narinfo' AND paths IS NOT NULL",
        &base(top)[..32]
    );
    assert_eq!(cache.count(&kept).await, 0, "it is counted again");
    cache.push(store, std::slice::from_ref(lost)).await.ok();
    let (_, closure) = cache.call("GET", &url(top), "").await;
    assert_eq!(size(&closure), measured(&cache, store, top).await);
    assert_eq!(cache.count(&kept).await, 1);
    assert_eq!(cache.call("GET", &url(lost), "").await.0, 200);
}
