//! Pushes, collections, crashes and failing requests at once, drawn from a seed: whatever they did to each
//! other, `fsck` finds nothing wrong afterwards.
//!
//! The seed repeats what was drawn, not how the machine scheduled it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    gc::{ALL_URLS_EXPIRED, everything, short_lived},
    support::{
        Fault, Graph, HandPush, Random, Refused, S3Proxy, Seen, Server, ServerOptions, TOKEN,
        TestCache, http, long_profile, shared_store,
    },
};

/// Paths that are pushed.
const PATHS: u64 = 14;
/// Pushes that go on at once, one after the other each.
const PUSHERS: u64 = 4;
/// How long the actors of one round go on.
const ROUND: Duration = Duration::from_millis(2500);
/// Rounds after which all URLs are let expire, so that everything goes; and after the last.
const EMPTIED_EVERY: u64 = 10;
/// Rounds of all caches together.
const QUICK_ROUNDS: u64 = 20;
const LONG_ROUNDS: u64 = 500;
/// Caches that are tormented side by side, each with its share of the rounds.
const CACHES: u64 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_at_once_fsck_finds_nothing_wrong() {
    let mut random = Random::new("whatever_happens_at_once_fsck_finds_nothing_wrong");
    let rounds = if long_profile() { LONG_ROUNDS } else { QUICK_ROUNDS };
    let share = rounds / CACHES;
    let caches: Vec<_> = (0..CACHES).map(|_| random.next()).collect();
    let caches = caches.into_iter().map(|seed| tokio::spawn(torment(seed, share)));
    for cache in caches.collect::<Vec<_>>() {
        cache.await.unwrap();
    }
}

/// One cache with two servers, and rounds of all that can happen to it.
async fn torment(seed: u64, rounds: u64) {
    let mut random = Random::from(seed);
    let proxy = S3Proxy::start().await;
    let options = ServerOptions { s3_endpoint: Some(proxy.endpoint()), ..short_lived() };
    let mut cache = TestCache::start_with(options).await;
    let mut twin = cache.server.twin().await;
    let graph = Arc::new(graph(&mut random));
    for round in 1..=rounds {
        let what = format!("cache {seed}, round {round}");
        let keep = random.below(2) == 0;
        proxy.set(faults(random.next()));
        let committed =
            play(&mut cache.server, &mut twin, &graph, keep, random.next(), &what).await;
        proxy.heal();
        settle(&cache).await;
        if keep {
            assert_kept(&cache, &committed, &what).await;
        }
        cache.assert_consistent().await;
        cache.assert_fsck(&["--s3"], &what).await;
        if round % EMPTIED_EVERY == 0 || round == rounds {
            empty(&cache, &what).await;
        }
    }
    // And it is still a cache.
    let (store, roots) = shared_store().await;
    cache.push(store, &roots[..1]).await.ok();
    cache.assert_consistent().await;
    cache.assert_fsck(&["--s3"], "at the end").await;
}

/// Overlapping closures; some paths share their contents, one has two of them. All have attachments.
fn graph(random: &mut Random) -> Graph {
    let mut graph = Graph::default();
    for n in 0..PATHS {
        let references: Vec<usize> =
            (0..n).filter(|_| random.below(3) == 0).map(|to| to as usize).collect();
        let content = format!("contents number {}", if n % 5 == 4 { n - 1 } else { n });
        let index = graph.add(&format!("p{n}"), &content, &references);
        // Some derivations have given two paths.
        let realises = format!("p{}", if n % 6 == 5 { n - 1 } else { n });
        graph.0[index].realises = Some(realises);
    }
    graph
}

/// What the line to S3 does: most of all to what is deleted.
fn faults(seed: u64) -> impl Fn(&Seen) -> Fault + Send + Sync {
    let drawn = AtomicU64::new(seed);
    move |seen| {
        let mut random = Random::from(drawn.fetch_add(1, Ordering::Relaxed));
        let deletes = seen.method == "DELETE" || seen.query.contains_key("delete");
        let often = if deletes { 3 } else { 25 };
        if random.below(often) != 0 {
            return Fault::None;
        }
        match random.below(6) {
            0 => Fault::answer(500, "InternalError"),
            1 => Fault::Reset,
            2 => Fault::LoseAnswer,
            3 => Fault::Answer { status: 503, code: "SlowDown", retry_after: None },
            4 => {
                Fault::Late(Duration::from_millis(random.below(4000)), Box::new(Fault::LoseAnswer))
            }
            _ => Fault::latency(random.below(3000)),
        }
    }
}

/// All actors of one round. Answers the roots that were committed.
async fn play(
    server: &mut Server,
    twin: &mut Server,
    graph: &Arc<Graph>,
    keep: bool,
    seed: u64,
    what: &str,
) -> Vec<usize> {
    let mut random = Random::from(seed);
    let urls = [server.url(), twin.url()];
    let committed = Arc::new(Mutex::new(Vec::new()));
    let until = tokio::time::Instant::now() + ROUND;
    let mut actors = Vec::new();
    for _ in 0..PUSHERS {
        let (urls, graph, committed) = (urls.clone(), Arc::clone(graph), Arc::clone(&committed));
        let mut random = Random::from(random.next());
        actors.push(tokio::spawn(async move {
            while tokio::time::Instant::now() < until {
                let root = random.below(PATHS) as usize;
                let url = &urls[random.below(2) as usize];
                match push(&mut random, url, &graph, root).await {
                    Ok(true) => committed.lock().unwrap().push(root),
                    Ok(false) => {}
                    // Only what a crash or a collection may be answered with.
                    Err(refused) => assert!(
                        [0, 403, 409, 410, 424, 500, 502, 503].contains(&refused.status),
                        "{refused:?}"
                    ),
                }
            }
        }));
    }
    let mut drawn = Random::from(random.next());
    let collectors = urls.clone();
    actors.push(tokio::spawn(async move {
        while tokio::time::Instant::now() < until {
            sleep(Duration::from_millis(drawn.below(400))).await;
            let mut parameters = everything();
            if keep {
                parameters["older_than"] = json!(3600);
            }
            collect(&collectors[drawn.below(2) as usize], &parameters).await;
        }
    }));
    // The killer.
    sleep(Duration::from_millis(random.below(1500))).await;
    let victim = if random.below(2) == 0 { server } else { twin };
    if random.below(3) > 0 {
        victim.kill().await;
        sleep(Duration::from_millis(random.below(500))).await;
        victim.restart().await;
    }
    for actor in actors {
        actor.await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    committed.lock().unwrap().clone()
}

/// One push, or a part of one: its client may vanish between any two steps, or go on after it has given
/// up. Answers whether it was committed.
async fn push(random: &mut Random, url: &str, graph: &Graph, root: usize) -> Result<bool, Refused> {
    let mut push = HandPush::plan(url, graph, &[root]).await?;
    let fate = random.below(8);
    for _ in 0..3 {
        if push.upload.is_none() {
            return Ok(true);
        }
        sleep(Duration::from_millis(random.below(100))).await;
        let urls = push.urls().await?;
        if fate == 0 {
            return Ok(false);
        }
        if fate == 1 {
            // Given up, and what was on its way arrives all the same.
            push.abandon().await?;
            sleep(Duration::from_millis(random.below(2000))).await;
        }
        let mut stored = Vec::new();
        for answer in &urls {
            stored.extend(push.put(answer).await?);
        }
        if fate == 2 {
            return Ok(false);
        }
        sleep(Duration::from_millis(random.below(300))).await;
        push.stored(stored).await?;
        sleep(Duration::from_millis(random.below(300))).await;
        match push.commit().await {
            Ok(()) => return Ok(true),
            Err(refused) if refused.status == 409 => push.replan().await?,
            Err(refused) => return Err(refused),
        }
    }
    Ok(false)
}

/// Starts a collection, and stays until it has ended or its server has.
async fn collect(url: &str, parameters: &Value) {
    let url = format!("{url}/api/v1/gc");
    let start = http().post(&url).bearer_auth(TOKEN).body(parameters.to_string());
    let Ok(answer) = start.send().await else { return };
    assert!([202, 409, 500, 503].contains(&answer.status().as_u16()), "{answer:?}");
    loop {
        sleep(Duration::from_millis(50)).await;
        let Ok(answer) = http().get(&url).bearer_auth(TOKEN).send().await else { return };
        let Ok(status) = answer.json::<Value>().await else { return };
        if status["collection"]["state"] != "running" {
            return;
        }
    }
}

/// Waits for whatever still runs in the servers.
async fn settle(cache: &TestCache) {
    loop {
        let (_, status) = cache.get("gc").await;
        if status["collection"]["state"] != "running" {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What was committed while nothing was old is there.
async fn assert_kept(cache: &TestCache, committed: &[usize], what: &str) {
    let closures = "SELECT o.key FROM closures c JOIN objects o ON o.id = c.object_id";
    let rows = cache.sql().await.query(closures, &[]).await.unwrap();
    let closures: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut names = Graph::default();
    for n in 0..PATHS {
        names.add(&format!("p{n}"), "", &[]);
    }
    for root in committed {
        assert!(closures.contains(&names.narinfo(*root)), "{what}: p{root} was committed");
    }
}

/// When nobody can write or hold anything any more, everything goes.
async fn empty(cache: &TestCache, what: &str) {
    // Uploads of vanished clients live for three times a URL's lifetime and the slack.
    sleep(ALL_URLS_EXPIRED + Duration::from_secs(6)).await;
    cache.collected(&everything()).await;
    // What was claimed by a collector that was killed lapses, and goes with the next one.
    sleep(ALL_URLS_EXPIRED).await;
    cache.collected(&everything()).await;
    let keys = cache.bucket.keys().await;
    let ours = |key: &&String| *key != "nix-cache-info" && !key.starts_with("generation/");
    let left: Vec<&String> = keys.iter().filter(ours).collect();
    assert!(left.is_empty(), "{what}: {left:?}");
    assert_eq!(cache.count("SELECT count(*) FROM objects").await, 0, "{what}");
    assert_eq!(cache.count("SELECT count(*) FROM holds").await, 0, "{what}");
}
