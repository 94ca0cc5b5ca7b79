//! What a fleet of CI jobs does to a cache: much, large, at once, and taken up again.

use std::{
    fs,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{
    scale::many,
    support::{Fault, Nix, NixStore, Seen, TestCache, each, long_profile, say},
};

/// Bytes that a client may take at the most: `--max-buffered` and what a program is.
const CLIENT_BYTES: u64 = 400_000_000;
const SERVER_BYTES: u64 = 200_000_000;

fn nars(seen: &Seen) -> bool {
    seen.puts(".nar.zst")
}

/// The most memory that a process has had, in bytes; 0 once it has ended.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}

/// Pushes and answers the client's peak memory.
async fn push_measured(cache: &TestCache, store: &NixStore, args: &[String]) -> u64 {
    let mut push = cache.command(store, "push", args);
    let mut push = push.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = push.id().unwrap();
    let mut stderr = BufReader::new(push.stderr.take().unwrap()).lines();
    let said = tokio::spawn(async move {
        let mut said = String::new();
        while let Ok(Some(line)) = stderr.next_line().await {
            said += &line;
            said.push('\n');
        }
        said
    });
    let most = Arc::new(AtomicU64::new(0));
    let watch = tokio::spawn({
        let most = Arc::clone(&most);
        async move {
            loop {
                most.fetch_max(peak(pid), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let ended = push.wait().await.unwrap();
    watch.abort();
    assert!(ended.success(), "{}", said.await.unwrap());
    most.load(Ordering::Relaxed)
}

fn print_peaks(what: &str, cache: &TestCache, client: u64) {
    let server = peak(cache.server.pid());
    say(&format!(
        "{what}: client {} MB, server {} MB at the peak",
        client / 1_000_000,
        server / 1_000_000
    ));
    assert!(client > 1_000_000 && client < CLIENT_BYTES, "client: {client} bytes");
    assert!(server > 1_000_000 && server < SERVER_BYTES, "server: {server} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_follow_the_size_of_a_nar() {
    let bytes = if long_profile() { 3_000_000_000 } else { 300_000_000 };
    let store = NixStore::new(Nix::any());
    let path = vec![store.add_half_noise("huge", 1, bytes).await];
    let cache = TestCache::start().await;
    let client = push_measured(&cache, &store, &path).await;
    print_peaks(&format!("a path of {} MB", bytes / 1_000_000), &cache, client);
    cache.assert_consistent().await;
    let reader = NixStore::new(&store.nix);
    reader.substitute(cache.bucket.reader(), &path).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_push_overlapping_closures_at_once_and_all_complete() {
    let (clients, closures, paths) = if long_profile() { (20, 5, 600) } else { (8, 4, 120) };
    let (store, _) = many(paths).await;
    // Whatever needs the paths up to some number: each closure has most of the others.
    let all = store.all_paths().await;
    let roots = |n: usize| -> Vec<String> {
        let step = all.len() / (closures * 2);
        all.iter().skip(n * step).step_by(3).cloned().collect()
    };
    let cache = TestCache::start().await;
    let pushes = (0..clients).map(|client| {
        let (cache, store, roots) = (&cache, &store, roots(client % closures));
        async move { push_measured(cache, store, &roots).await }
    });
    let started = Instant::now();
    let most = join_all(pushes).await.into_iter().max().unwrap();
    let took = started.elapsed().as_secs_f64();
    print_peaks(&format!("{clients} clients, {closures} closures, {took:.1} s"), &cache, most);
    cache.assert_consistent().await;
    for n in 0..closures {
        let again = cache.push(&store, &roots(n)).await.ok();
        assert!(again.stderr.contains("nothing to send"), "{}", again.stderr);
    }
    let pushed = cache.count("SELECT count(*) FROM uploads WHERE state = 0").await;
    assert_eq!(pushed, 0, "every upload has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_many_narinfos_sends_many_at_once_to_a_store_far_away() {
    let paths = if long_profile() { 10_000 } else { 1_000 };
    let (store, top) = many(paths).await;
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    proxy.set(each(|_| true, Fault::latency(50)));
    let mut push = cache.command(&store, "push", &["--json".to_owned(), top]);
    let mut push = push.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let pid = push.id().unwrap();
    let mut events = BufReader::new(push.stdout.take().unwrap()).lines();
    let (started, mut last_sent, mut client) = (Instant::now(), Instant::now(), 0);
    let mut last = Value::Null;
    while let Some(line) = events.next_line().await.unwrap() {
        last = serde_json::from_str(&line).unwrap();
        client = peak(pid).max(client);
        if last["event"] == "sent" {
            last_sent = Instant::now();
        }
    }
    assert_eq!(last["event"], "done");
    let commit = last_sent.elapsed().as_secs_f64();
    let sent = last_sent.duration_since(started).as_secs_f64();
    say(&format!(
        "{paths} paths at 50 ms: sent in {sent:.1} s, published in {commit:.1} s, {} requests at once",
        proxy.most_in_flight()
    ));
    print_peaks(&format!("a closure of {paths} paths"), &cache, client);
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), paths);
    // Seconds say more of what else this machine does. That the commit is fast comes from sending many
    // narinfos at once: more than the client's 30, and within the bounds of both.
    let at_once = proxy.most_in_flight();
    assert!((40..=130).contains(&at_once), "{at_once} requests at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_died_at_90_percent_is_taken_up_from_another_machine() {
    const PATHS: usize = 300;
    // Sent and not yet reported when the client dies: those in flight, and a report under way.
    const UNREPORTED: usize = 60;
    let (store, top) = many(PATHS).await;
    let (elsewhere, same) = many(PATHS).await;
    assert_eq!(top, same);
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    // Slower than reports are taken, so that few are on their way.
    proxy.set(each(nars, Fault::latency(300)));
    let mut push = cache.command(&store, "push", std::slice::from_ref(&top)).spawn().unwrap();
    let sent = || proxy.count(|record| nars(&record.seen) && record.s3 == Some(200));
    while sent() < PATHS * 9 / 10 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    push.kill().await.unwrap();
    let first = sent();
    proxy.heal();
    cache.push(&elsewhere, &[top]).await.ok();
    let again = sent() - first;
    say(&format!("{first} of {PATHS} NARs were sent before the kill, {again} after it"));
    assert!(again <= PATHS - first + UNREPORTED, "{again} NARs were sent again");
    cache.assert_consistent().await;
}
