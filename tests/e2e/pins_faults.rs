//! Pins while S3 fails, several servers meet, and servers die.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    pins::{base, filed, pin, unpin},
    support::{
        Fault, Random, S3Proxy, Seen, Server, ServerOptions, TestCache, each, first, rounds,
        shared_store,
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A cache with the fixture in it, its server behind a proxy. With short-lived URLs files follow within
/// seconds, whatever happened; what was pushed had its time.
async fn start(url_lifetime: &str) -> (TestCache, S3Proxy, &'static [String]) {
    let (store, roots) = shared_store().await;
    let mut cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    let proxy = S3Proxy::start().await;
    let s3_endpoint = Some(proxy.endpoint());
    let args = ServerOptions::args(&["--url-lifetime", url_lifetime, "--s3-slack", "1s"]);
    let options = ServerOptions { s3_endpoint, ..args };
    cache.server.kill().await;
    let (dir, bucket) = (cache.dir.path(), cache.bucket.name());
    cache.server = Server::start(dir, &cache.database, bucket, options).await;
    (cache, proxy, roots)
}

fn is_pin(seen: &Seen) -> bool {
    seen.key.starts_with("pins/")
}

/// Waits until each file says what its pin does, and nothing is left to be done.
async fn settle(cache: &TestCache) {
    let open = "SELECT count(*) FROM pins \
                WHERE writing_until IS NOT NULL OR filed IS DISTINCT FROM object_id";
    let started = Instant::now();
    while cache.count(open).await > 0 {
        assert!(started.elapsed() < PATIENCE, "files do not follow: {}", cache.server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_agree(cache).await;
}

/// The files and the table say the same.
async fn assert_agree(cache: &TestCache) {
    let mut names = BTreeSet::new();
    for row in cache.sql().await.query("SELECT name, store_path FROM pins", &[]).await.unwrap() {
        let (name, path): (String, String) = (row.get(0), row.get(1));
        assert_eq!(filed(cache, &name).await, Some(format!("/nix/store/{path}")));
        names.insert(format!("pins/{name}"));
    }
    let keys = cache.bucket.keys().await;
    let files: BTreeSet<String> = keys.into_iter().filter(|key| key.starts_with("pins/")).collect();
    assert_eq!(files, names);
}

/// What the file says is kept. With the gate closed no row changes, and what arrives in the bucket
/// meanwhile has been announced in one.
async fn assert_kept(cache: &TestCache, name: &str) {
    let mut sql = cache.sql().await;
    let gate = sql.transaction().await.unwrap();
    gate.execute("SELECT pg_advisory_xact_lock(7956008359254516084)", &[]).await.unwrap();
    let Some(path) = filed(cache, name).await else { return };
    let kept = "SELECT count(*) FROM pins p JOIN narinfos n \
                ON n.object_id = p.object_id OR n.object_id = p.filed \
                WHERE p.name = $1 AND n.store_path = $2";
    let kept: i64 = gate.query_one(kept, &[&name, &base(&path)]).await.unwrap().get(0);
    assert!(kept > 0, "the file says {path}, which nothing keeps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_s3_refuses_follows_when_s3_takes_it() {
    let (cache, proxy, roots) = start("30m").await;
    let [one, other, ..] = roots else { unreachable!() };
    for (fault, status) in [
        (Fault::answer(500, "InternalError"), 502),
        (Fault::answer(503, "SlowDown"), 503),
        (Fault::answer(403, "AccessDenied"), 424),
        (Fault::AnswerAfter { status: 500, code: "InternalError" }, 502),
    ] {
        proxy.set(each(is_pin, fault));
        let (answered, body) = pin(&cache, "main", one).await;
        assert_eq!(answered, status, "{body}");
        let said = body["error"].as_str().unwrap();
        assert!(said.contains("the pin main keeps its closure") && said.contains("S3 answered"));
        // Nothing is under way, so it can be moved back and away at once.
        proxy.heal();
        assert_eq!(pin(&cache, "main", other).await.0, 200);
        assert_agree(&cache).await;

        proxy.set(each(is_pin, Fault::answer(500, "InternalError")));
        assert_eq!(pin(&cache, "main", one).await.0, 502);
        let (_, pins) = cache.call("GET", "pins", "").await;
        assert_eq!(pins["pins"][0]["path"], json!(base(one)));
        assert_eq!(filed(&cache, "main").await.as_ref(), Some(other));
        proxy.heal();
        settle(&cache).await;
        assert_eq!(filed(&cache, "main").await.as_ref(), Some(one));

        proxy.set(each(is_pin, Fault::answer(500, "InternalError")));
        let (status, body) = unpin(&cache, "main").await;
        assert_eq!(status, 502, "{body}");
        assert!(body["error"].as_str().unwrap().contains("the pin main is deleted"), "{body}");
        assert_eq!(cache.call("GET", "pins", "").await.1, json!({"pins": []}));
        let root = format!("closures/{}", &base(one)[..32]);
        let (status, body) = cache.call("DELETE", &root, "").await;
        assert_eq!(status, 409, "its file still says so: {body}");
        proxy.heal();
        settle(&cache).await;
        assert_eq!(filed(&cache, "main").await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failing_try_is_not_seen() {
    let (cache, proxy, roots) = start("30m").await;
    proxy.set(first(1, is_pin, Fault::answer(500, "InternalError")));
    assert_eq!(pin(&cache, "main", &roots[0]).await.0, 200);
    assert_agree(&cache).await;
    // One whose answer is lost may still arrive: the file is there, and nobody changes it for now.
    proxy.set(first(1, is_pin, Fault::LoseAnswer));
    assert_eq!(pin(&cache, "main", &roots[1]).await.0, 200);
    assert_eq!(filed(&cache, "main").await.as_ref(), Some(&roots[1]));
    let (status, body) = pin(&cache, "main", &roots[2]).await;
    assert_eq!(status, 503, "{body}");
    assert!(body["error"].as_str().unwrap().contains("somebody else is changing"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_answer_is_outstanding_both_closures_are_kept() {
    let (cache, proxy, roots) = start("3s").await;
    let [one, two, three, ..] = roots else { unreachable!() };
    assert_eq!(pin(&cache, "main", one).await.0, 200);
    proxy.set(each(is_pin, Fault::LoseAnswer));
    assert_eq!(pin(&cache, "main", two).await.0, 502);
    proxy.heal();
    for path in [one, two] {
        let root = format!("closures/{}", &base(path)[..32]);
        let (status, body) = cache.call("DELETE", &root, "").await;
        assert_eq!(status, 409, "{body}");
        assert!(body["error"].as_str().unwrap().contains("pinned as main"), "{body}");
    }
    // A third one waits until nothing can be under way any more.
    let started = Instant::now();
    assert_eq!(pin(&cache, "main", three).await.0, 200);
    assert!(started.elapsed() > Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(filed(&cache, "main").await.as_ref(), Some(three));
    for (path, status) in [(one, 204), (two, 204), (three, 409)] {
        let root = format!("closures/{}", &base(path)[..32]);
        assert_eq!(cache.call("DELETE", &root, "").await.0, status);
    }
    settle(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_while_it_writes_leaves_a_file_that_follows() {
    let (mut cache, proxy, roots) = start("3s").await;
    assert_eq!(pin(&cache, "main", &roots[0]).await.0, 200);
    let mut random = Random::new("pins and kills");
    for round in 0..rounds(4) as usize {
        proxy.set(each(is_pin, Fault::latency(random.below(300))));
        let url = format!("{}/api/v1/pins/main", cache.server.url());
        let request = crate::support::http().request(
            if round % 4 == 3 { reqwest::Method::DELETE } else { reqwest::Method::PUT },
            url,
        );
        let body = json!({"path": base(&roots[(round + 1) % roots.len()])}).to_string();
        let call = request.bearer_auth(crate::support::TOKEN).body(body).send();
        let call = tokio::spawn(call);
        tokio::time::sleep(Duration::from_millis(random.below(300))).await;
        cache.server.kill().await;
        drop(call.await);
        assert_kept(&cache, "main").await;
        proxy.heal();
        cache.server.restart().await;
        settle(&cache).await;
        // Whether or not it came so far, the next one does.
        let next = &roots[(round + 2) % roots.len()];
        assert_eq!(pin(&cache, "main", next).await.0, 200);
        assert_eq!(filed(&cache, "main").await.as_ref(), Some(next));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_that_move_one_pin_end_with_one_answer() {
    let (cache, proxy, roots) = start("3s").await;
    let twin = cache.server.twin().await;
    let random = Arc::new(Mutex::new(Random::new("pins")));
    for bad_line in [false, true] {
        if bad_line {
            let random = Arc::clone(&random);
            proxy.set(move |seen| {
                let mut random = random.lock().unwrap();
                match random.below(12) {
                    _ if !is_pin(seen) => Fault::None,
                    0 => Fault::Reset,
                    1 => Fault::LoseAnswer,
                    2 => Fault::answer(500, "InternalError"),
                    3 => Fault::AnswerAfter { status: 502, code: "BadGateway" },
                    4 => Fault::answer(503, "SlowDown"),
                    5 => Fault::latency(random.below(1000)),
                    _ => Fault::latency(random.below(20)),
                }
            });
        }
        let move_it = async |server: &Server| {
            for _ in 0..if bad_line { 6 } else { 15 } {
                let draw = random.lock().unwrap().next();
                let (status, body) = if draw.is_multiple_of(5) {
                    server.call("DELETE", "pins/main", "").await
                } else {
                    let path = base(&roots[draw as usize % roots.len()]);
                    server.call("PUT", "pins/main", json!({"path": path}).to_string()).await
                };
                let expected: &[u16] = match bad_line {
                    false => &[200, 204, 404],
                    true => &[200, 204, 404, 424, 502, 503],
                };
                assert!(expected.contains(&status), "{status}: {body}");
            }
        };
        let moves = async {
            let (a, b) = (&cache.server, &twin);
            tokio::join!(move_it(a), move_it(b), move_it(a), move_it(b));
        };
        let looks = async {
            loop {
                assert_kept(&cache, "main").await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = moves => {}
            () = looks => {}
        }
        proxy.heal();
        settle(&cache).await;
    }
    // What nothing pins any more can go.
    assert!([204, 404].contains(&unpin(&cache, "main").await.0));
    for root in roots {
        let closure = format!("closures/{}", &base(root)[..32]);
        assert_eq!(cache.call("DELETE", &closure, "").await.0, 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_server_has_sent_cannot_undo_a_later_move() {
    let (mut cache, proxy, roots) = start("4s").await;
    let [one, two, three, ..] = roots else { unreachable!() };
    assert_eq!(pin(&cache, "main", one).await.0, 200);
    // It arrives when another server may be there already.
    let late = Duration::from_secs(3);
    proxy.set(first(1, is_pin, Fault::Late(late, Box::new(Fault::None))));
    let started = Instant::now();
    let url = format!("{}/api/v1/pins/main", cache.server.url());
    let body = json!({"path": base(two)}).to_string();
    let call = crate::support::http().put(url).bearer_auth(crate::support::TOKEN).body(body);
    let call = tokio::spawn(call.send());
    while cache.count("SELECT count(*) FROM pins WHERE filed <> object_id").await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    cache.server.kill().await;
    drop(call.await);
    cache.server.restart().await;
    assert_eq!(pin(&cache, "main", three).await.0, 200);
    tokio::time::sleep((late + Duration::from_secs(1)).saturating_sub(started.elapsed())).await;
    let written = proxy.count(|record| is_pin(&record.seen) && record.s3 == Some(200));
    assert!(written >= 3, "what the dead server sent has come too: {:?}", proxy.log());
    assert_eq!(filed(&cache, "main").await.as_ref(), Some(three));
    settle(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_closure_waits_until_the_file_surely_names_one() {
    let (cache, proxy, roots) = start("30m").await;
    let [one, two, three, ..] = roots else { unreachable!() };
    assert_eq!(pin(&cache, "main", one).await.0, 200);
    proxy.set(each(is_pin, Fault::AnswerAfter { status: 500, code: "InternalError" }));
    assert_eq!(pin(&cache, "main", two).await.0, 502);
    assert_eq!(filed(&cache, "main").await.as_ref(), Some(two), "it was written all the same");
    proxy.set(each(is_pin, Fault::answer(500, "InternalError")));
    for (status, body) in [pin(&cache, "main", three).await, unpin(&cache, "main").await] {
        assert_eq!(status, 502, "{body}");
        let said = body["error"].as_str().unwrap();
        assert!(said.contains("has not followed an earlier change"), "{said}");
        assert_kept(&cache, "main").await;
    }
    // Back to the first one: that is among the two.
    let (status, body) = pin(&cache, "main", one).await;
    assert!(status == 502 && body["error"].as_str().unwrap().contains("keeps its closure"));
    assert_kept(&cache, "main").await;
    proxy.heal();
    assert_eq!(pin(&cache, "main", three).await.0, 200);
    assert_agree(&cache).await;
}
