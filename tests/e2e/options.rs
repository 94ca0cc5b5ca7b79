//! What the flags of a push do.

use serde_json::Value;

use crate::support::{Fault, Nix, NixStore, Run, TestCache, each, shared_store};

fn events(run: &Run) -> Vec<Value> {
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn flags(flags: &[&str], paths: &[String]) -> Vec<String> {
    flags.iter().map(ToString::to_string).chain(paths.iter().cloned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_sent_and_changes_nothing() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    let paths = store.closure(roots).await.len();
    let dry = cache.client(store, "push", &flags(&["--dry-run", "--json"], roots)).await.ok();
    let dry = events(&dry);
    let last = dry.last().unwrap();
    assert_eq!((&last["event"], &last["paths"]), (&"dry-run".into(), &paths.into()));
    let would: u64 = last["nars"].as_u64().unwrap();
    assert_eq!(dry.iter().filter(|event| event["event"] == "would-send").count() as u64, would);
    for table in ["objects", "uploads", "closures"] {
        assert_eq!(cache.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(cache.bucket.keys().await.len(), 1, "nix-cache-info alone");

    // What it said is what is sent, and then there is nothing left to say.
    let pushed = cache.client(store, "push", &flags(&["--json"], roots)).await.ok();
    let pushed = events(&pushed);
    let done = pushed.last().unwrap();
    assert_eq!((&done["event"], done["nars"].as_u64()), (&"done".into(), Some(would)));
    assert_eq!(done["nar_bytes"], last["nar_bytes"]);
    assert!(done["requests"].as_u64().unwrap() >= would && done["calls"].as_u64().unwrap() >= 4);
    let sent = pushed.iter().filter(|event| event["event"] == "sent");
    assert_eq!(sent.clone().count() as u64, would);
    let bytes: u64 = sent.map(|event| event["bytes"].as_u64().unwrap()).sum();
    assert_eq!(done["bytes"], bytes);
    let dry = cache.client(store, "push", &flags(&["--dry-run"], roots)).await.ok();
    assert!(dry.stderr.contains("would send 0 NARs"), "{}", dry.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_the_last_event_and_says_what_a_person_reads() {
    let (store, roots) = shared_store().await;
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    proxy.set(each(|seen| seen.puts(".nar.zst"), Fault::answer(403, "AccessDenied")));
    let failed = cache.client(store, "push", &flags(&["--json"], roots)).await;
    let events = events(&failed);
    let error = events.last().unwrap();
    assert_eq!((&error["event"], &error["exit_code"]), (&"error".into(), &4.into()));
    assert!(error["causes"].to_string().contains("AccessDenied"), "{error}");
    failed.failed(4, &["AccessDenied", "hint:"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_is_quiet_and_verbose_names_each_nar() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    let verbose = cache.client(store, "push", &flags(&["-v"], roots)).await.ok();
    let nars = cache.bucket.keys_ending(".nar.zst").await.len();
    assert_eq!(verbose.stderr.matches("\nsent ").count(), nars, "{}", verbose.stderr);
    let quiet = cache.client(store, "push", &flags(&["-q"], roots)).await.ok();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let both = cache.client(store, "push", &flags(&["-q", "--json"], roots)).await;
    both.failed(2, &["--json, --quiet and --verbose"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_are_left_out_by_name_and_by_size_and_what_others_need_is_not() {
    let store = NixStore::new(Nix::any());
    let small = store.add_noise("small", 1, 1000).await;
    let image = store.add_noise("image", 2, 1000).await;
    let large = store.add_noise("large", 3, 100_000).await;
    let cache = TestCache::start().await;
    let leave_out = ["--exclude", "im*", "--max-nar-size", "50kB"];
    let all = [small.clone(), image.clone(), large.clone()];
    let pushed = cache.client(&store, "push", &flags(&leave_out, &all)).await.ok();
    for (path, why) in [(&image, "--exclude im*"), (&large, "--max-nar-size is 50.0 kB")] {
        let line = format!("{path} is left out: ");
        let line = pushed.stderr.lines().find(|text| text.starts_with(&line)).unwrap();
        assert!(line.contains(why), "{line}");
    }
    assert!(pushed.stderr.contains("1 path in the cache, 1 NAR"), "{}", pushed.stderr);
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 1);
    // All of them left out is no failure: a job's outputs may all be images.
    let none = cache.client(&store, "push", &flags(&leave_out, &[image, large])).await.ok();
    assert!(none.stderr.contains("0 paths in the cache"), "{}", none.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bucket_has_lost_is_found_and_sent_again() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    let before = cache.bucket.keys().await;
    let verify = flags(&["--verify-s3-integrity"], roots);
    let whole = cache.client(store, "push", &verify).await.ok();
    assert!(whole.stderr.contains("the bucket has all of"), "{}", whole.stderr);
    let mut lost = 0;
    for kind in [".nar.zst", ".narinfo", ".ls"] {
        for key in cache.bucket.keys_ending(kind).await.iter().take(2) {
            cache.bucket.delete(key).await;
            lost += 1;
        }
    }
    // Time passes: nobody can write any of these keys any more.
    let sql = cache.sql().await;
    let old = "UPDATE objects SET writable_until = now() - interval '1 hour'";
    sql.batch_execute(old).await.unwrap();
    // Without looking, the database is believed.
    let blind = cache.push(store, roots).await.ok();
    assert!(blind.stderr.contains("nothing to send"), "{}", blind.stderr);
    let mended = cache.client(store, "push", &verify).await.ok();
    assert!(mended.stderr.contains(&format!("has lost {lost} of")), "{}", mended.stderr);
    assert!(mended.stderr.contains("2 NARs of"), "{}", mended.stderr);
    cache.assert_consistent().await;
    cache.assert_complete(store, roots).await;
    assert_eq!(cache.bucket.keys().await.len(), before.len());
    let whole = cache.client(store, "push", &verify).await.ok();
    assert!(whole.stderr.contains("the bucket has all of"), "{}", whole.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_and_bounds_are_kept_or_refused_with_the_range() {
    let store = NixStore::new(Nix::any());
    let path = vec![store.add_noise("words", 4, 10_000).await];
    let cache = TestCache::start().await;
    for (flag, value, why) in [
        ("--compression-level", "20", "1 to 19"),
        ("--max-concurrent-uploads", "0", "1 to 1000"),
        ("--max-buffered", "1MB", "MiB at the least"),
        ("--multipart-threshold", "much", "100MB or 1GiB"),
        ("--exclude", "[", "--exclude"),
    ] {
        let run = cache.client(&store, "push", &flags(&[flag, value], &path)).await;
        run.failed(2, &[flag, why]);
    }
    let flags = flags(
        &["--compression-level", "19", "--max-concurrent-uploads", "1", "--max-buffered", "256MiB"],
        &path,
    );
    cache.client(&store, "push", &flags).await.ok();
    cache.assert_consistent().await;
}
