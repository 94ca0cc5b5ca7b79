//! Large NARs: sent in parts, by several at once, through lines that break.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::process::Signal;
use tokio::process::Child;

use crate::support::{
    Fault, Nix, NixStore, Record, Run, S3Proxy, Seen, ServerOptions, TestCache, each, first,
    first_try, long_profile, signal,
};

/// What makes the test's NARs large, and the smallest part that there is: 8 MiB.
const IN_PARTS: [&str; 2] = ["--multipart-threshold", "1MB"];
const PART_BYTES: usize = 8 * 1024 * 1024;

/// A store with one path of some 20 MB: two whole parts and a rest.
async fn large(seed: u64) -> (NixStore, Vec<String>) {
    let store = NixStore::new(Nix::any());
    let path = store.add_noise("large", seed, 20_000_000).await;
    (store, vec![path])
}

async fn push(cache: &TestCache, store: &NixStore, paths: &[String]) -> Run {
    cache.client(store, "push", &args(paths)).await
}

fn args(paths: &[String]) -> Vec<String> {
    IN_PARTS.map(str::to_owned).into_iter().chain(paths.iter().cloned()).collect()
}

fn parts(seen: &Seen) -> bool {
    seen.method == "PUT" && seen.query.contains_key("partNumber")
}

fn completions(seen: &Seen) -> bool {
    seen.method == "POST" && seen.query.contains_key("uploadId")
}

fn openings(seen: &Seen) -> bool {
    seen.method == "POST" && seen.query.contains_key("uploads")
}

fn taken(record: &Record) -> bool {
    parts(&record.seen) && record.s3 == Some(200)
}

/// The NAR is there once and whole, nothing is left open, and Nix can read it.
async fn assert_there(cache: &TestCache) {
    cache.assert_consistent().await;
    cache.assert_realisable().await;
    assert_eq!(cache.bucket.keys_ending(".nar.zst").await.len(), 1);
    assert_nothing_open(cache).await;
}

async fn assert_nothing_open(cache: &TestCache) {
    assert_eq!(cache.bucket.open_multiparts().await, Vec::<String>::new());
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain until {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_nar_is_sent_in_parts_of_one_size_and_completed_once() {
    let (store, paths) = large(1).await;
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    push(&cache, &store, &paths).await.ok();
    assert_there(&cache).await;
    let mut bytes: Vec<u64> =
        proxy.log().iter().filter(|record| taken(record)).map(|record| record.seen.bytes).collect();
    bytes.sort_unstable();
    let (last, full) = bytes.split_first().unwrap();
    assert_eq!(full, [PART_BYTES as u64; 2]);
    assert!(*last < PART_BYTES as u64);
    assert_eq!(proxy.count(|record| completions(&record.seen)), 1);
    let again = push(&cache, &store, &paths).await.ok();
    assert!(again.stderr.contains("nothing to send"), "{}", again.stderr);
    assert_eq!(proxy.count(|record| openings(&record.seen)), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_sent_again_one_by_one_until_s3_has_them_as_they_are() {
    let (store, paths) = large(2).await;
    for (fault, sha256) in [
        (Fault::answer(500, "InternalError"), false),
        (Fault::answer(503, "SlowDown"), false),
        (Fault::FlipBit, false),
        (Fault::FlipBit, true),
        (Fault::ResetInBody, false),
        (Fault::LoseAnswer, true),
    ] {
        let proxy = S3Proxy::start().await;
        let checksum = if sha256 { ["--s3-checksum", "sha256"] } else { ["--s3-checksum", "md5"] };
        let options =
            ServerOptions { s3_endpoint: Some(proxy.endpoint()), ..ServerOptions::args(&checksum) };
        let cache = TestCache::start_with(options).await;
        proxy.set(first_try(parts, fault.clone()));
        push(&cache, &store, &paths).await.ok();
        assert_there(&cache).await;
        // Three parts, each of them twice; those that S3 had were not asked for a third time.
        assert_eq!(proxy.count(|record| parts(&record.seen)), 6, "{fault:?} {:?}", proxy.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_object_itself_says_whether_a_completion_succeeded() {
    let (store, paths) = large(3).await;
    // It fails and the object is there: done.
    for fault in [Fault::LoseAnswer, Fault::AnswerAfter { status: 500, code: "InternalError" }] {
        let (cache, proxy) = TestCache::behind_s3_proxy().await;
        proxy.set(each(completions, fault.clone()));
        push(&cache, &store, &paths).await.ok();
        assert_there(&cache).await;
        assert_eq!(proxy.count(|record| completions(&record.seen)), 1, "{fault:?}");
    }
    // 200 with an error in it is none: asked again.
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    proxy.set(first(1, completions, Fault::ErrorIn200 { code: "InternalError" }));
    push(&cache, &store, &paths).await.ok();
    assert_there(&cache).await;
    assert_eq!(proxy.count(|record| completions(&record.seen)), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_s3_refuses_fails_the_push_and_leaves_nothing_open() {
    let (store, paths) = large(4).await;
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    proxy.set(each(completions, Fault::answer(400, "InvalidPart")));
    push(&cache, &store, &paths).await.failed(4, &["InvalidPart"]);
    assert_nothing_open(&cache).await;
    assert!(cache.bucket.keys_ending(".narinfo").await.is_empty());
    proxy.heal();
    push(&cache, &store, &paths).await.ok();
    assert_there(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_that_fails_or_is_not_confirmed_is_made_again_and_leaves_nothing_open() {
    let (store, paths) = large(9).await;
    // Longer than an upload may have bodies of one NAR, where there is time for it.
    let refusals = if long_profile() { 10 } else { 4 };
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    proxy.set(first(refusals, openings, Fault::answer(500, "InternalError")));
    push(&cache, &store, &paths).await.ok();
    assert_there(&cache).await;
    assert_eq!(proxy.count(|record| openings(&record.seen)), refusals + 1);

    // S3 opens them and nobody hears of it: they are found by their keys when the push has ended.
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    proxy.set(first(3, openings, Fault::LoseAnswer));
    push(&cache, &store, &paths).await.ok();
    assert_eq!(proxy.count(|record| openings(&record.seen) && record.s3 == Some(200)), 4);
    assert_there(&cache).await;
}

/// A push that is stopped while its last part is on its way.
async fn half_way(cache: &TestCache, proxy: &S3Proxy, store: &NixStore, paths: &[String]) -> Child {
    proxy.set(each(parts, Fault::Slow(2_000_000)));
    let push = cache.command(store, "push", &args(paths)).spawn().unwrap();
    until("parts are on their way", async || proxy.most_in_flight() >= 2).await;
    push
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_interrupted_leaves_nothing_open_at_s3() {
    for stop in [Signal::INT, Signal::TERM] {
        let (store, paths) = large(5).await;
        let (cache, proxy) = TestCache::behind_s3_proxy().await;
        let mut child = half_way(&cache, &proxy, &store, &paths).await;
        assert_eq!(cache.bucket.open_multiparts().await.len(), 1);
        signal(&child, stop);
        assert_eq!(child.wait().await.unwrap().code(), Some(130));
        assert_nothing_open(&cache).await;
        proxy.heal();
        push(&cache, &store, &paths).await.ok();
        assert_there(&cache).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_push_left_open_is_thrown_away_when_it_has_expired() {
    let (store, paths) = large(6).await;
    let (mut cache, proxy) = TestCache::behind_s3_proxy().await;
    let mut child = half_way(&cache, &proxy, &store, &paths).await;
    child.kill().await.unwrap();
    // As if S3's answer to the opening had been lost as well: found by its key.
    let sql = cache.sql().await;
    sql.batch_execute("UPDATE multiparts SET s3_id = NULL").await.unwrap();
    cache.server.kill().await;
    cache.server.restart().await;
    assert_eq!(cache.bucket.open_multiparts().await.len(), 1, "it may still come back");
    let expire = "UPDATE uploads SET expires_at = now() - interval '1 s'; \
                  UPDATE objects SET writable_until = now() - interval '1 s'";
    sql.batch_execute(expire).await.unwrap();
    cache.server.kill().await;
    cache.server.restart().await;
    until("it is gone", async || cache.bucket.open_multiparts().await.is_empty()).await;
    assert_eq!(cache.count("SELECT count(*) FROM multiparts").await, 0);
    proxy.heal();
    push(&cache, &store, &paths).await.ok();
    assert_there(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pushes_of_one_large_nar_the_first_to_end_ends_both() {
    static SLOW: AtomicBool = AtomicBool::new(true);
    let (store, paths) = large(7).await;
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    // The first push is slow from its first part on, the second, which begins later, is not.
    proxy.set(|seen| {
        if parts(seen) && SLOW.load(Ordering::Relaxed) {
            Fault::Slow(1_500_000)
        } else {
            Fault::None
        }
    });
    let mut slow = cache.command(&store, "push", &args(&paths));
    let slow = tokio::spawn(async move { crate::support::run(&mut slow).await });
    until("the slow one sends", async || proxy.most_in_flight() >= 2).await;
    SLOW.store(false, Ordering::Relaxed);
    push(&cache, &store, &paths).await.ok();
    let slow = slow.await.unwrap().ok();
    assert!(slow.stderr.contains("in the cache"), "{}", slow.stderr);
    assert_there(&cache).await;
    assert_eq!(proxy.count(|record| openings(&record.seen)), 2);
    assert_eq!(proxy.count(|record| completions(&record.seen)), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_push_has_stored_counts_only_if_it_is_there() {
    static SLOW: AtomicBool = AtomicBool::new(true);
    let (store, paths) = large(8).await;
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    let slow_first = |seen: &Seen| {
        if parts(seen) && SLOW.load(Ordering::Relaxed) {
            Fault::Slow(1_500_000)
        } else {
            Fault::None
        }
    };
    proxy.set(slow_first);
    let mut slow = cache.command(&store, "push", &args(&paths));
    let slow = tokio::spawn(async move { crate::support::run(&mut slow).await });
    until("the slow one sends", async || proxy.most_in_flight() >= 2).await;
    SLOW.store(false, Ordering::Relaxed);
    // The first look is the second push's own; the next one is for the slow push, whose multipart
    // upload was aborted, and does not find the NAR.
    let looks = |seen: &Seen| seen.method == "HEAD" && seen.key.ends_with(".nar.zst");
    let looked = std::sync::atomic::AtomicUsize::new(0);
    proxy.set(move |seen| {
        let second = looks(seen) && looked.fetch_add(1, Ordering::Relaxed) == 1;
        // It is asked for in words then, and is not there either.
        let in_words = seen.method == "GET" && seen.key.ends_with(".nar.zst");
        if second || in_words { Fault::answer(404, "NoSuchKey") } else { slow_first(seen) }
    });
    push(&cache, &store, &paths).await.ok();
    slow.await.unwrap().ok();
    cache.assert_consistent().await;
    cache.assert_realisable().await;
    assert_nothing_open(&cache).await;
    // It sent the NAR itself, and what was composed with the lost one was composed anew.
    assert_eq!(proxy.count(|record| completions(&record.seen)), 2);
    assert_eq!(cache.bucket.keys_ending(".nar.zst").await.len(), 2);
}
