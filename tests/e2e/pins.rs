//! Pins: names for closures, and files in the bucket that say which.

use serde_json::{Value, json};

use crate::support::{NixStore, TestCache, assert_same_tree, run, shared_store};

/// A store path as calls name it.
pub fn base(path: &str) -> &str {
    &path["/nix/store/".len()..]
}

pub async fn pin(cache: &TestCache, name: &str, path: &str) -> (u16, Value) {
    let body = json!({"path": base(path)}).to_string();
    cache.call("PUT", &format!("pins/{name}"), body).await
}

pub async fn unpin(cache: &TestCache, name: &str) -> (u16, Value) {
    cache.call("DELETE", &format!("pins/{name}"), "").await
}

/// What the file of a pin says: a path and the end of a line.
pub async fn filed(cache: &TestCache, name: &str) -> Option<String> {
    let (body, encoding, kind) = cache.bucket.raw(&format!("pins/{name}")).await?;
    assert_eq!((encoding, kind.as_deref()), (None, Some("text/plain")));
    let text = String::from_utf8(body).unwrap();
    Some(text.strip_suffix('\n').unwrap().to_owned())
}

/// Each name and its path.
async fn listed(cache: &TestCache, query: &str) -> (Vec<(String, String)>, Value) {
    let (status, body) = cache.call("GET", &format!("pins{query}"), "").await;
    assert_eq!(status, 200, "{body}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pins = body["pins"].as_array().unwrap();
    let pins = pins.iter().map(|pin| (text(&pin["name"]), text(&pin["path"])));
    (pins.collect(), body["next"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_made_moved_and_deleted_and_its_file_follows() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    let [one, other, ..] = roots.as_slice() else { unreachable!() };
    assert_eq!(filed(&cache, "main").await, None);

    let (status, made) = pin(&cache, "main", one).await;
    assert_eq!((status, &made["name"], &made["path"]), (200, &json!("main"), &json!(base(one))));
    assert_eq!(filed(&cache, "main").await.as_ref(), Some(one));
    let (status, again) = pin(&cache, "main", one).await;
    assert_eq!((status, again), (200, made), "it was not moved");

    assert_eq!(pin(&cache, "main", other).await.0, 200);
    assert_eq!(filed(&cache, "main").await.as_ref(), Some(other));
    assert_eq!(pin(&cache, "also", other).await.0, 200);
    let pair = |name: &str| (name.to_owned(), base(other).to_owned());
    assert_eq!(listed(&cache, "").await, (vec![pair("also"), pair("main")], Value::Null));
    assert_eq!(listed(&cache, "?after=also").await.0, [pair("main")]);
    let in_order = "SELECT count(*) FROM pins WHERE filed = object_id AND writing_until IS NULL";
    assert_eq!(cache.count(in_order).await, 2);

    assert_eq!(unpin(&cache, "main").await.0, 204);
    assert_eq!(filed(&cache, "main").await, None);
    let (status, body) = unpin(&cache, "main").await;
    assert_eq!((status, body), (404, json!({"error": "there is no pin main"})));
    assert_eq!(listed(&cache, "").await.0, [pair("also")]);
    assert_eq!(cache.count("SELECT count(*) FROM pins").await, 1);

    // A file that somebody has removed by hand comes back.
    cache.bucket.delete("pins/also").await;
    assert_eq!(pin(&cache, "also", other).await.0, 200);
    assert_eq!(filed(&cache, "also").await.as_ref(), Some(other));
}

#[tokio::test(flavor = "multi_thread")]
async fn nix_realises_what_the_file_of_a_pin_says() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    let top = roots.iter().find(|root| root.ends_with("-top")).unwrap();
    assert_eq!(pin(&cache, "release-1.2_x", top).await.0, 200);
    let reader = NixStore::new(&store.nix);
    let url = format!("{}/pins/release-1.2_x", cache.bucket.reader());
    let mut shell = reader.program("nix-store");
    let path = crate::support::http().get(url).send().await.unwrap().text().await.unwrap();
    shell.args(["--store", &reader.root(), "--option", "substituters", cache.bucket.reader()]);
    let realised = run(shell.args(["-r", path.trim_end()])).await.ok();
    assert_eq!(realised.stdout, path);
    assert_same_tree(&store.real(top), &reader.real(top));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_closure_that_was_pushed_can_be_pinned() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    let root = &roots[0];
    let closure = store.closure(roots).await;
    let part = closure.iter().find(|path| path.ends_with("-text")).unwrap();
    assert!(!roots.contains(part));
    let unknown = "/nix/store/26xbg1ndr7hbcncrlf9nhx5is2b25d13-unknown";
    let renamed = format!("{}-renamed", &root[..43]);
    for (path, status, said) in [
        (unknown, 404, "is not a closure that was pushed to this cache; push it"),
        (part, 404, "is not a closure that was pushed to this cache; push it"),
        (&renamed, 409, base(root)),
    ] {
        let (answered, body) = pin(&cache, "main", path).await;
        assert_eq!(answered, status, "{body}");
        assert!(body["error"].as_str().unwrap().contains(said), "{body}");
    }
    for name in [".hidden", "a%2Fb", "-x", "a%20b"] {
        let (status, body) = pin(&cache, name, root).await;
        assert_eq!(status, 400, "{name}: {body}");
    }
    for body in ["", "{}", r#"{"path": "/nix/store/x"}"#] {
        assert_eq!(cache.call("PUT", "pins/main", body).await.0, 400);
    }
    assert_eq!(cache.call("GET", "pins?after=a/b", "").await.0, 400);
    assert_eq!(cache.call("GET", "pins?after=a&after=b", "").await.0, 400);

    let sql = cache.sql().await;
    let set = |what: &str| {
        format!("UPDATE objects SET {what} WHERE key = '{}.narinfo'", &base(root)[..32])
    };
    sql.batch_execute(&set("stored_at = NULL")).await.unwrap();
    let (status, body) = pin(&cache, "main", root).await;
    assert_eq!(status, 409, "{body}");
    assert!(body["error"].as_str().unwrap().contains("push it again"), "{body}");
    sql.batch_execute(&set("claimed_at = now()")).await.unwrap();
    let (status, body) = pin(&cache, "main", root).await;
    assert_eq!(status, 503, "{body}");
    assert_eq!(cache.count("SELECT count(*) FROM pins").await, 0, "nothing is left of a refusal");
    assert_eq!(filed(&cache, "main").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pins_are_listed_page_by_page() {
    let cache = TestCache::start().await;
    let many = "INSERT INTO pins (name, object_id, store_path, filed, created_at, moved_at) \
                SELECT 'pin-' || n, n, '26xbg1ndr7hbcncrlf9nhx5is2b25d13-x', n, now(), now() \
                FROM generate_series(1, 2500) n";
    cache.sql().await.batch_execute(many).await.unwrap();
    let (mut names, mut query) = (Vec::new(), String::new());
    loop {
        let (pins, next) = listed(&cache, &query).await;
        assert!(pins.len() <= 1000);
        names.extend(pins.into_iter().map(|(name, _)| name));
        let Some(next) = next.as_str() else { break };
        query = format!("?after={next}");
    }
    assert_eq!(names.len(), 2500);
    assert!(names.is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_waits_at_the_gate_and_does_not_keep_what_expired_meanwhile() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    let mut collector = cache.sql().await;
    let batch = collector.transaction().await.unwrap();
    batch.execute("SELECT pg_advisory_xact_lock(7956008359254516084)", &[]).await.unwrap();
    batch.batch_execute("DELETE FROM closures").await.unwrap();
    let pinned = pin(&cache, "main", &roots[0]);
    tokio::pin!(pinned);
    let wait = std::time::Duration::from_secs(1);
    assert!(tokio::time::timeout(wait, &mut pinned).await.is_err(), "it went through the gate");
    batch.commit().await.unwrap();
    assert_eq!(pinned.await.0, 404);
    assert_eq!(cache.count("SELECT count(*) FROM pins").await, 0);
}
