//! `niks3-server resign` that is killed, and beside everything else that goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    gc::{everything, short_lived},
    gc_accidents::short_lived_behind_proxy,
    resign::{KEY_A, KEY_B},
    support::{Fault, Graph, HandPush, Random, Seen, TestCache, each, rounds, run},
};

const KEY_C: &str = "binary-cache-test-3";

/// More than one chunk has.
const PATHS: usize = 700;

/// `PATHS` paths, each of which refers to some before it; the last needs all.
fn wide() -> Graph {
    let mut graph = Graph::default();
    for n in 0..PATHS - 1 {
        let mut references: Vec<usize> = [n / 2, n / 3].into_iter().filter(|to| *to < n).collect();
        references.dedup();
        graph.add(&format!("p{n}"), &format!("contents {}", n % 50), &references);
    }
    graph.add("top", "top", &(0..PATHS - 1).collect::<Vec<_>>());
    graph
}

fn narinfos(seen: &Seen) -> bool {
    seen.puts(".narinfo")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_at_any_moment_is_completed_by_the_next() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    cache.push_by_hand(&wide(), PATHS - 1).await;
    cache.quiet().await;
    let mut random = Random::new("resign kills");
    // Some 64 at once, 700 of them: a whole run takes a good second.
    proxy.set(each(narinfos, Fault::latency(80)));
    for _ in 0..rounds(6) {
        let mut resign = cache.resign_command(KEY_B, &["--add"]).spawn().unwrap();
        sleep(Duration::from_millis(random.below(2000))).await;
        let _ = resign.kill().await;
    }
    // What was on its way at the last kill arrives late, and does no harm.
    proxy.set(each(narinfos, Fault::latency(2000)));
    let mut resign = cache.resign_command(KEY_B, &["--add"]).spawn().unwrap();
    sleep(Duration::from_millis(1000)).await;
    let _ = resign.kill().await;
    proxy.heal();
    cache.resigned(KEY_B, &["--add"]).await;
    cache.assert_signed_by(&[KEY_A, KEY_B]).await;

    cache.assert_consistent().await;
    let again = cache.resigned(KEY_B, &[]).await;
    assert_eq!((again["resigned"].as_u64(), again["sent"].as_u64()), (Some(0), Some(0)), "{again}");
    cache.assert_fsck(&["--s3"], "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_has_under_way_cannot_come_after_the_next_keys() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    cache.push_by_hand(&Graph::chain(&["lib", "app"]), 1).await;
    cache.quiet().await;
    // Its URL is good for three seconds.
    let late = Duration::from_millis(2500);
    proxy.set(each(narinfos, Fault::Late(late, Box::new(Fault::None))));
    let mut resign = cache.resign_command(KEY_C, &["--replace", KEY_A]).spawn().unwrap();
    let taken = "SELECT count(*) FROM resigned r JOIN objects o ON o.id = r.object_id \
                 WHERE o.writable_until IS NOT NULL";
    while cache.count(taken).await < 2 {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_millis(300)).await;
    let _ = resign.kill().await;
    proxy.heal();
    cache.resigned(KEY_B, &["--replace", KEY_C]).await;
    sleep(late).await;
    cache.assert_signed_by(&[KEY_B]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_runs_at_a_time() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    cache.push_by_hand(&wide(), PATHS - 1).await;
    cache.quiet().await;
    proxy.set(each(narinfos, Fault::latency(300)));
    let (one, other) = tokio::join!(cache.resign(KEY_B, &[]), async {
        sleep(Duration::from_millis(700)).await;
        cache.resign(KEY_B, &[]).await
    });
    one.ok();
    other.failed(1, &["another `niks3-server resign` is under way"]);
    cache.assert_signed_by(&[KEY_A, KEY_B]).await;
}

/// Pushes, collections and runs of it with three keys, all at once on a bad line to S3. Then one that is left
/// alone.
#[tokio::test(flavor = "multi_thread")]
async fn beside_pushes_and_collections_it_breaks_nothing_and_forgets_nothing() {
    const OVERLAPPING: usize = 30;
    let (cache, proxy) = short_lived_behind_proxy().await;
    let mut random = Random::new("resign beside all");
    let mut graph = Graph::default();
    for n in 0..OVERLAPPING {
        let references: Vec<usize> = (0..n).filter(|_| random.below(4) == 0).collect();
        let index = graph.add(&format!("p{n}"), &format!("contents {}", n / 2), &references);
        graph.0[index].realises = Some(format!("p{}", n / 2));
    }
    let drawn = Arc::new(AtomicU64::new(random.next()));
    proxy.set(move |_| match Random::from(drawn.fetch_add(1, Ordering::Relaxed)).below(40) {
        0 => Fault::answer(500, "InternalError"),
        1 => Fault::LoseAnswer,
        2 => Fault::latency(2500),
        3 => Fault::Late(Duration::from_millis(2500), Box::new(Fault::LoseAnswer)),
        4 => Fault::Answer { status: 503, code: "SlowDown", retry_after: None },
        _ => Fault::None,
    });
    let until = Instant::now() + Duration::from_secs(12 * rounds(1));
    let done = Arc::new(AtomicBool::new(false));
    let mut pushers = Vec::new();
    for _ in 0..3 {
        let (url, graph) = (cache.server.url(), graph.clone());
        let mut random = Random::from(random.next());
        pushers.push(tokio::spawn(async move {
            while Instant::now() < until {
                let root = random.below(OVERLAPPING as u64) as usize;
                // On a bad line some fail; what they leave is looked at in the end.
                let _ = HandPush::push(&url, &graph, &[root]).await;
            }
        }));
    }
    let resigning = async {
        let keys = [KEY_A, KEY_B, KEY_C];
        let mut reports = Vec::new();
        while Instant::now() < until {
            let (with, replaced) = (keys[random.below(3) as usize], keys[random.below(3) as usize]);
            let mut resign = cache.resign_command(with, &["--replace", replaced]);
            let killed = random.below(3) == 0;
            if killed {
                let mut resign = resign.spawn().unwrap();
                sleep(Duration::from_millis(random.below(3000))).await;
                let _ = resign.kill().await;
            } else {
                // It waits for what is being pushed again and again.
                let ended = tokio::time::timeout(Duration::from_secs(8), run(&mut resign)).await;
                reports.extend(ended.ok().map(|run| run.stdout));
            }
        }
        done.store(true, Ordering::Relaxed);
        reports
    };
    let collecting = async {
        while !done.load(Ordering::Relaxed) {
            let _ = cache.post("gc", everything().to_string()).await;
            sleep(Duration::from_millis(500)).await;
        }
    };
    let (reports, ()) = tokio::join!(resigning, collecting);
    for pusher in pushers {
        pusher.await.unwrap();
    }
    proxy.heal();
    // What pushes have left that failed goes, once they have expired.
    sleep(Duration::from_secs(12)).await;
    while cache.collect(&everything()).await["state"] != "finished" {}
    HandPush::push(&cache.server.url(), &graph, &[OVERLAPPING - 1]).await.unwrap();
    let last = cache.resigned(KEY_B, &["--replace", KEY_A, "--replace", KEY_C]).await;
    assert!(last["looked_at"].as_u64() > Some(0), "{last} after {reports:?}");
    cache.assert_consistent().await;
    cache.assert_signed_by(&[KEY_B]).await;
    cache.assert_fsck(&["--s3"], "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_is_not_noted_yet_is_not_taken_for_the_new_text() {
    let cache = TestCache::start_with(short_lived()).await;
    let graph = Graph::chain(&["lib", "app"]);
    cache.push_by_hand(&graph, 1).await;
    cache.quiet().await;
    // As a commit leaves it that was suspended between its PUT and its note, for longer than it may write.
    let suspended = "UPDATE objects SET stored_at = NULL, writable_until = now() - interval '1 minute' \
                     WHERE kind = 1";
    let sql = cache.sql().await;
    sql.execute(suspended, &[]).await.unwrap();
    let taken = "SELECT array_agg(object_id ORDER BY object_id), array_agg(version ORDER BY object_id) \
                 FROM narinfos";
    let taken = sql.query_one(taken, &[]).await.unwrap();
    let (ids, versions): (Vec<i64>, Vec<i64>) = (taken.get(0), taken.get(1));
    cache.resigned(KEY_B, &["--add"]).await;
    let noted = include_str!("../../server/src/store/sql/mark_stored.sql");
    let noted = sql.query(noted, &[&ids, &versions]).await.unwrap();
    assert!(noted.is_empty(), "{noted:?}");
    cache.push_by_hand(&graph, 1).await;
    cache.assert_signed_by(&[KEY_A, KEY_B]).await;
}
