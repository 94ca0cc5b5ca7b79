//! Callers who send what no client of ours would.

use serde_json::{Value, json};

use crate::support::TestCache;

const NAR_HASH: &str = "sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h";

fn hash(number: u32) -> String {
    format!("{number:032}")
}

/// A plan of paths with these references; the last is the root.
pub fn plan(references: &[&[u32]]) -> Value {
    let paths: Vec<Value> = references
        .iter()
        .enumerate()
        .map(|(n, references)| {
            json!({"path": format!("{}-p", hash(n as u32)), "nar_hash": NAR_HASH,
                   "nar_size": 112, "references": references})
        })
        .collect();
    json!({"store_dir": "/nix/store", "roots": [references.len() - 1], "paths": paths})
}

async fn assert_untouched(cache: &TestCache) {
    for table in ["uploads", "objects", "holds", "upload_paths", "closures"] {
        assert_eq!(cache.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_no_closure_is_refused_and_nothing_is_kept() {
    let cache = TestCache::start().await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut plan = plan(&[&[], &[0]]);
        change(&mut plan);
        plan
    };
    let many: Vec<u32> = vec![0; 1_000_000];
    for (plan, part) in [
        (plan(&[&[7]]), "not among the plan's paths"),
        (plan(&[&[1], &[0], &[1]]), "refers to itself through other paths"),
        (plan(&[&[], &[0, 0]]), "twice"),
        (plan(&[&[], &many]), "1000000 references"),
        (with(&|plan| plan["roots"] = json!([])), "no roots"),
        (with(&|plan| plan["roots"] = json!([2])), "root number 2"),
        (with(&|plan| plan["store_dir"] = json!("/gnu/store")), "/gnu/store"),
        (with(&|plan| plan["paths"][0]["nar_size"] = json!(0)), "NAR size of 0"),
        (with(&|plan| plan["paths"][0]["nar_size"] = json!(-1)), "not as expected"),
        (with(&|plan| plan["paths"][0]["path"] = json!("../../../etc/passwd")), "not as expected"),
        (
            with(&|plan| plan["paths"][0]["path"] = json!(format!("{}-../x", hash(0)))),
            "invalid name",
        ),
        (
            with(&|plan| plan["paths"][0]["path"] = json!(format!("{}-p", "e".repeat(32)))),
            "not as expected",
        ),
        (
            with(&|plan| plan["paths"][0]["nar_hash"] = json!(NAR_HASH.replace('0', "u"))),
            "is not a hash",
        ),
        (
            with(&|plan| {
                plan["paths"][0]["signatures"] =
                    json!([format!("k:{}==\nURL: evil", "A".repeat(86))])
            }),
            "signature",
        ),
        (with(&|plan| plan["paths"][0]["deriver"] = json!("x\ny")), "not as expected"),
        (with(&|plan| plan["paths"][0]["ca"] = json!("fixed:sha256:x\n")), "not as expected"),
        (json!("what?"), "not as expected"),
    ] {
        let (status, body) = cache.post("uploads", plan.to_string()).await;
        assert_eq!(status, 400, "{part}: {body}");
        let error = body["error"].as_str().unwrap();
        assert!(error.contains(part) && error.len() < 500, "{part:?} is not in {error:?}");
    }
    let (status, _) = cache.post("uploads", "{").await;
    assert_eq!(status, 400);
    assert_untouched(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_300_megabytes_is_cut_off() {
    let cache = TestCache::start().await;
    // Announced, and streamed without a length: nobody buffers either.
    let (status, body) = cache.post("uploads", vec![b' '; 300_000_000]).await;
    assert_eq!(status, 413, "{body}");
    let chunk = bytes::Bytes::from(vec![b' '; 1_000_000]);
    let chunks = (0..300).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let (status, body) = cache.post("uploads", body).await;
    assert_eq!(status, 413, "{body}");
    for call in ["urls", "stored"] {
        let (status, _) = cache.post(&format!("uploads/x/{call}"), vec![b' '; 3_000_000]).await;
        assert_eq!(status, 413, "{call}");
    }
    assert_untouched(&cache).await;
}

/// An upload of one path, opened by hand; answers its id.
async fn open(cache: &TestCache) -> String {
    let (status, body) = cache.post("uploads", plan(&[&[]]).to_string()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["nars"], json!([0]));
    body["upload"]["id"].as_str().unwrap().to_owned()
}

fn nar(bytes: u64, md5: &str) -> Value {
    json!({"kind": "nar", "nar_hash": NAR_HASH, "bytes": bytes, "md5": md5})
}

const MD5: &str = "rL0Y20zC+Fzt72VPzMSk2A==";
const OTHER_MD5: &str = "N7UdGUp1E+RbVvZSTy1R8g==";

async fn urls(cache: &TestCache, id: &str, objects: Value) -> (u16, Value) {
    cache.post(&format!("uploads/{id}/urls"), json!({"objects": objects}).to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_one_upload_and_one_body() {
    let cache = TestCache::start().await;
    let (mine, theirs) = (open(&cache).await, open(&cache).await);
    let key = async |id: &str, md5: &str| {
        let (status, body) = urls(&cache, id, json!([nar(3, md5)])).await;
        assert_eq!(status, 200, "{body}");
        let object = &body["objects"][0];
        assert_eq!(object["headers"]["content-md5"], md5);
        assert_eq!(object["headers"]["content-length"], "3");
        assert!(object["headers"].get("content-encoding").is_none());
        object["key"].as_str().unwrap().to_owned()
    };
    let first = key(&mine, MD5).await;
    assert_eq!(key(&mine, MD5).await, first, "the same body: the URL is renewed");
    let second = key(&mine, OTHER_MD5).await;
    assert_ne!(second, first, "another body gets another key");
    let other = key(&theirs, MD5).await;
    assert_ne!(other, first, "another upload gets another key");

    let stored = json!({"objects": [{"key": first, "file_hash": NAR_HASH}]}).to_string();
    let (status, body) = cache.post(&format!("uploads/{theirs}/stored"), stored).await;
    assert_eq!(status, 400, "{body}");
    let writable = "SELECT count(*) FROM objects WHERE kind = 2 AND writable_until < \
                    now() + interval '30 minutes'";
    assert_eq!(cache.count(writable).await, 0, "recorded before the URLs left");
    let beyond = "SELECT count(*) FROM uploads u, objects o WHERE o.writer = u.number AND \
                  o.writable_until > u.expires_at";
    assert_eq!(cache.count(beyond).await, 0, "an upload outlives its URLs");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reported_and_not_there_does_not_count_as_stored() {
    let cache = TestCache::start().await;
    let id = open(&cache).await;
    let (_, body) = urls(&cache, &id, json!([nar(3, MD5)])).await;
    let object = body["objects"][0].clone();
    let key = object["key"].as_str().unwrap().to_owned();
    let report = json!({"objects": [{"key": key, "file_hash": NAR_HASH}]}).to_string();
    let path = format!("uploads/{id}/stored");
    let (status, body) = cache.post(&path, report.clone()).await;
    assert_eq!((status, &body["missing"]), (200, &json!([key])));
    let (status, body) = cache.post(&format!("uploads/{id}/commit"), "").await;
    assert_eq!(status, 409, "{body}");
    assert!(body["error"].as_str().unwrap().contains("is not in the bucket yet"), "{body}");

    // Something of another size under that key is no more welcome.
    cache.bucket.put(&key, "four").await;
    let (_, body) = cache.post(&path, report).await;
    assert_eq!(body["missing"], json!([key]));
    // Without its FileHash no narinfo could be composed.
    let bare = json!({"objects": [{"key": key}]}).to_string();
    assert_eq!(cache.post(&path, bare).await.0, 400);
    assert_eq!(cache.count("SELECT count(*) FROM objects WHERE stored_at IS NOT NULL").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_an_upload_are_held_to_its_plan_and_its_limits() {
    let cache = TestCache::start().await;
    let id = open(&cache).await;
    let stray = json!({"kind": "nar", "bytes": 3, "md5": MD5,
        "nar_hash": "sha256:00gmnrvmid775f0i80s2g9gdn97679066ax0gqplwkavynba07vi"});
    let listing = |path: &str, bytes: u64| json!({"kind": "listing", "path": path, "bytes": bytes, "md5": MD5});
    let (own, other) = (hash(0), hash(1));
    for (objects, part) in [
        (json!([stray]), "no NAR"),
        (json!([nar(3, MD5), nar(3, MD5)]), "twice"),
        (json!([nar(6_000_000_000, MD5)]), "too large"),
        (json!([listing(&own, 17_000_000)]), "too large"),
        (json!([listing(&other, 3)]), "not a key that this upload"),
        (json!([nar(3, "no base64")]), "not as expected"),
        (json!(vec![nar(3, MD5); 1001]), "the limit is 1000"),
    ] {
        let (status, body) = urls(&cache, &id, objects).await;
        assert_eq!(status, 400, "{part}: {body}");
        assert!(body["error"].as_str().unwrap().contains(part), "{part:?} is not in {body}");
    }
    for forged in ["0123456789abcdfghijklmnp", "../x", "%00"] {
        let (status, _) = urls(&cache, forged, json!([])).await;
        assert_eq!(status, 404, "{forged}");
    }
    assert_eq!(cache.count("SELECT count(*) FROM objects WHERE kind <> 1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_given_up_is_gone_and_what_it_held_is_a_candidate() {
    let cache = TestCache::start().await;
    let id = open(&cache).await;
    let (_, body) = urls(&cache, &id, json!([nar(3, MD5)])).await;
    assert_eq!(body["objects"][0]["answer"], "put");
    let url = format!("{}/api/v1/uploads/{id}", cache.server.url());
    for _ in 0..2 {
        let request = crate::support::http().delete(&url).bearer_auth(crate::support::TOKEN);
        assert_eq!(request.send().await.unwrap().status(), 204, "giving up twice is no error");
    }
    for call in ["urls", "stored", "commit"] {
        let (status, body) =
            cache.post(&format!("uploads/{id}/{call}"), r#"{"objects": []}"#).await;
        assert_eq!(status, 410, "{call}: {body}");
    }
    assert_eq!(cache.count("SELECT count(*) FROM holds").await, 0);
    assert_eq!(cache.count("SELECT count(*) FROM upload_paths").await, 0);
    let forgotten =
        "SELECT count(*) FROM objects WHERE id NOT IN (SELECT object_id FROM candidates)";
    assert_eq!(cache.count(forgotten).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_uploads_planned_paths_and_bodies_of_a_nar_have_limits() {
    let cache = TestCache::start().await;
    let id = open(&cache).await;
    for n in 0..8 {
        let (status, body) = urls(&cache, &id, json!([nar(n + 1, MD5)])).await;
        assert_eq!(status, 200, "{body}");
    }
    let (status, body) = urls(&cache, &id, json!([nar(100, MD5)])).await;
    assert_eq!(status, 400, "{body}");

    let sql = cache.sql().await;
    let open_more = |count: u32, paths: u32| {
        format!(
            "DELETE FROM uploads; INSERT INTO uploads \
             (id, caller, state, created_at, expires_at, paths, roots) SELECT 'other-' || n, \
             'token', 0, now(), now() + interval '1 hour', {paths}, '{{}}' \
             FROM generate_series(1, {count}) n"
        )
    };
    let plan = plan(&[&[]]).to_string();
    for (count, paths, part) in [(1000, 1, "1000 open uploads"), (2, 5_000_000, "10000000 paths")] {
        sql.batch_execute(&open_more(count, paths)).await.unwrap();
        let (status, body) = cache.post("uploads", plan.clone()).await;
        assert_eq!(status, 429, "{body}");
        assert!(body["error"].as_str().unwrap().contains(part), "{body}");
    }
    // Those that have expired do not count.
    sql.batch_execute("UPDATE uploads SET expires_at = now() - interval '1 s'").await.unwrap();
    assert_eq!(cache.post("uploads", plan).await.0, 200);
}
