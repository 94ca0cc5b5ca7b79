//! S3 that misbehaves: a push waits it out or says why it failed, and leaves a cache that readers
//! can use and that the next push completes.

use std::{
    cell::Cell,
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt as _, future::join_all, stream};

use crate::support::{
    Fault, Random, Record, Run, S3Proxy, Seen, TestCache, each, first, first_try, long_profile,
    rounds, shared_store,
};

/// Caches under test at once: most of the time they wait.
const AT_ONCE: usize = 6;

type Kind = fn(&Seen) -> bool;

/// What a push asks of S3, request by request.
const KINDS: [Kind; 4] = [nars, listings, looks, narinfos];

fn nars(seen: &Seen) -> bool {
    seen.puts(".nar.zst")
}

fn listings(seen: &Seen) -> bool {
    seen.puts(".ls")
}

fn looks(seen: &Seen) -> bool {
    seen.method == "HEAD"
}

fn narinfos(seen: &Seen) -> bool {
    seen.puts(".narinfo")
}

/// A push of the fixture into a new cache with this rule. Whatever came of it, readers can use what
/// is there, and with a good line the next push completes.
async fn push_through(
    rule: impl Fn(&Seen) -> Fault + Send + Sync + 'static,
) -> (Run, TestCache, S3Proxy) {
    let (store, roots) = shared_store().await;
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    proxy.set(rule);
    let pushed = cache.push(store, roots).await;
    cache.assert_consistent().await;
    cache.assert_realisable().await;
    if pushed.code != Some(0) {
        // It was given up, so nothing but its bytes is left of it.
        for table in ["closures", "holds", "upload_paths"] {
            assert_eq!(cache.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
        }
    }
    proxy.heal();
    cache.assert_complete(store, roots).await;
    (pushed, cache, proxy)
}

/// A push succeeds, although by its rule each of these faults meets requests of every kind.
async fn assert_survived<R>(faults: impl IntoIterator<Item = Fault>, rule: impl Fn(Fault) -> R)
where
    R: Fn(&Seen) -> Fault + Send + Sync + 'static,
{
    let survived = faults.into_iter().map(|fault| (fault.clone(), rule(fault)));
    join_all(survived.map(|(fault, rule)| async move {
        let met = Arc::new(Mutex::new(Vec::new()));
        let meeting = Arc::clone(&met);
        let (pushed, ..) = push_through(move |seen| {
            let fault = rule(seen);
            if fault != Fault::None {
                meeting.lock().unwrap().push(seen.clone());
            }
            fault
        })
        .await;
        assert_eq!(pushed.code, Some(0), "{fault:?}: {}", pushed.stderr);
        let met = met.lock().unwrap();
        assert!(KINDS.iter().all(|kind| met.iter().any(kind)), "{fault:?} met only {met:?}");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bursts_of_refusals_are_waited_out() {
    let slow_down = Fault::Answer { status: 429, code: "SlowDown", retry_after: Some(1) };
    let faults = [Fault::answer(503, "SlowDown"), Fault::answer(500, "InternalError"), slow_down];
    // Where they do not come at once, each is met by a longer pause.
    let refusals = if long_profile() { 10 } else { 5 };
    assert_survived(faults, |fault| {
        let bursts = KINDS.map(|kind| first(refusals, kind, fault.clone()));
        move |seen| {
            let met = bursts.iter().map(|burst| burst(seen)).find(|met| *met != Fault::None);
            met.unwrap_or(Fault::None)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_reset_are_made_anew() {
    let faults = [Fault::Reset, Fault::ResetInBody];
    assert_survived(faults, |fault| first_try(|_| true, fault)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_s3_did_without_confirming_it_is_done_again() {
    let failed = Fault::AnswerAfter { status: 500, code: "InternalError" };
    let faults = [Fault::LoseAnswer, Fault::TruncateAnswer, failed];
    assert_survived(faults, |fault| first_try(|_| true, fault)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_slow_or_far_only_takes_its_time() {
    let faults = [Fault::latency(50), Fault::Slow(10_000)];
    assert_survived(faults, |fault| each(|_| true, fault)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_damaged_on_the_way_is_refused_and_sent_again() {
    // Each of them once.
    let (pushed, _, proxy) =
        push_through(first_try(|seen| seen.method == "PUT", Fault::FlipBit)).await;
    pushed.ok();
    for kind in [nars, listings, narinfos] {
        let refused = proxy.count(|record| kind(&record.seen) && record.s3 == Some(400));
        assert!(refused > 0, "S3 took what was damaged: {:?}", proxy.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_s3_never_does_is_said_and_nothing_is_half_published() {
    let forbidden = Fault::answer(403, "AccessDenied");
    let said: [(Kind, Fault, i32, &[&str]); 6] = [
        (|_| true, Fault::Reset, 3, &["cannot send the NAR of", "S3 did not answer", "hint:"]),
        (nars, Fault::answer(503, "SlowDown"), 3, &["cannot send the NAR of", "503", "SlowDown"]),
        (looks, Fault::Reset, 3, &["502", "S3 did not answer HEAD nar/", "in bucket", "hint:"]),
        (narinfos, Fault::Reset, 3, &["502", "S3 did not answer PUT", ".narinfo", "hint:"]),
        (nars, forbidden.clone(), 4, &["cannot send the NAR of", "403", "AccessDenied", "hint:"]),
        (narinfos, forbidden, 4, &["424", "403", "AccessDenied", ".narinfo"]),
    ];
    // What may pass is waited for, the server for two minutes: not every day.
    let every_day: [usize; 3] = [0, 4, 5];
    let said = said.into_iter().enumerate();
    let said = said.filter(|(n, _)| long_profile() || every_day.contains(n)).map(|(_, said)| said);
    join_all(said.map(|(kind, fault, code, parts)| async move {
        let (pushed, ..) = push_through(each(kind, fault)).await;
        let pushed = pushed.failed(code, parts);
        assert!(!pushed.stderr.contains("X-Amz-"), "a presigned URL: {}", pushed.stderr);
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_that_s3_does_not_take_cost_nothing_and_come_with_a_later_push() {
    let (pushed, cache, proxy) = push_through(each(listings, Fault::Reset)).await;
    pushed.ok();
    assert!(proxy.count(|record| listings(&record.seen) && record.answered.is_none()) > 0);
    // Pushed again since, while the URLs that were given for them are still good.
    let narinfos = cache.bucket.keys_ending(".narinfo").await.len();
    assert_eq!(cache.bucket.keys_ending(".ls").await.len(), narinfos);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_403_is_taken_for_the_age_of_a_url_only_if_that_is_a_minute_old() {
    let forbidden = Fault::answer(403, "AccessDenied");
    let (pushed, _, proxy) = push_through(first_try(nars, forbidden.clone())).await;
    pushed.failed(4, &["403", "AccessDenied"]);
    let again = |record: &Record| nars(&record.seen) && record.seen.earlier > 0;
    // What was sent again is what the next push has sent, under keys of its own.
    assert_eq!(proxy.count(again), 0);
    if long_profile() {
        let late = Fault::Late(Duration::from_secs(61), Box::new(forbidden));
        let (pushed, _, proxy) = push_through(first_try(nars, late)).await;
        pushed.ok();
        assert!(proxy.count(again) > 0, "the same keys with other URLs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_meets_only_what_it_can_realise_while_a_push_runs() {
    let (store, roots) = shared_store().await;
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    // Not the same for all, so that what is sent at once does not arrive in that order; and long enough
    // for a reader who is slow himself to look in between.
    proxy.set(|seen| {
        let some = seen.key.bytes().map(u64::from).sum::<u64>() % 50;
        Fault::latency(if narinfos(seen) { 400 + 8 * some } else { 50 + some })
    });
    let (ended, mut met, mut looks) = (Cell::new(false), BTreeSet::new(), BTreeSet::new());
    let push = async {
        let pushed = cache.push(store, roots).await;
        ended.set(true);
        pushed
    };
    let read = async {
        while !ended.get() {
            let narinfos = cache.bucket.keys_ending(".narinfo").await;
            looks.insert(narinfos.len());
            for key in narinfos {
                if met.insert(key.clone()) {
                    cache.bucket.assert_met(&key).await;
                }
            }
        }
    };
    let (pushed, ()) = tokio::join!(push, read);
    pushed.ok();
    assert!(looks.len() > 2, "it looked before and after only: {looks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_through_random_faults_completes_or_says_why() {
    let random = Arc::new(Mutex::new(Random::new("S3 faults")));
    let faults = [
        Fault::latency(100),
        Fault::answer(503, "SlowDown"),
        Fault::answer(500, "InternalError"),
        Fault::Reset,
        Fault::ResetInBody,
        Fault::LoseAnswer,
        Fault::AnswerAfter { status: 500, code: "InternalError" },
        Fault::TruncateAnswer,
        Fault::Slow(20_000),
    ];
    stream::iter(0..rounds(4))
        .for_each_concurrent(AT_ONCE, |_| {
            let (random, faults) = (Arc::clone(&random), faults.clone());
            let rule = move |_: &Seen| {
                let drawn = random.lock().unwrap().below(3 * faults.len() as u64);
                faults.get(drawn as usize).cloned().unwrap_or(Fault::None)
            };
            async {
                let (pushed, ..) = push_through(rule).await;
                if pushed.code != Some(0) {
                    pushed.failed(3, &["error: ", "S3 "]);
                }
            }
        })
        .await;
}
