//! What grows with the number of paths, and what must not.

use std::{fmt::Write as _, fs, process::Stdio, time::Instant};

use niks3_core::hash::NarHash;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::support::{Nix, NixStore, ServerOptions, TestCache, long_profile, run, say};

/// Statements that the server has run on this cache's database, the tests' own left out.
async fn statements(cache: &TestCache) -> i64 {
    let count = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s \
                 JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = current_database() \
                 AND query NOT LIKE '%of the test%' AND query NOT LIKE '%pg_stat_statements%' \
                 AND query NOT LIKE '%FROM pins%' AND query NOT LIKE '%count_changes%'";
    cache.count(count).await
}

/// A plan of so many paths without references, each with contents of its own.
fn flat_plan(paths: u32, offset: u32) -> Value {
    let paths: Vec<Value> = (offset..offset + paths)
        .map(|n| {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&n.to_le_bytes());
            let nar_hash = NarHash::new(digest).to_string();
            json!({"path": format!("{n:032}-p"), "nar_hash": nar_hash, "nar_size": 112})
        })
        .collect();
    let roots: Vec<usize> = (0..paths.len()).collect();
    json!({"store_dir": "/nix/store", "roots": roots, "paths": paths})
}

/// All planned NARs are in the bucket, says the database.
const STORED: &str = "/* of the test */ INSERT INTO objects (key, kind, size, sha256, stored_at) \
    SELECT 'nar/' || nar_hash || '-0123456789abcdfghijklmnp.nar.zst', 2, 9, \
           decode(repeat('00', 32), 'hex'), now() FROM upload_paths";

#[tokio::test(flavor = "multi_thread")]
async fn plan_and_commit_take_as_many_statements_for_many_paths_as_for_few() {
    let cache = TestCache::start().await;
    let sql = cache.sql().await;
    sql.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let mut taken = Vec::new();
    // The server does some things by itself now and then: what is the same once is.
    for (paths, offset) in [(20, 0), (900, 1000), (20, 2000), (900, 3000), (20, 4000), (900, 5000)]
    {
        if taken.len() == 2 {
            if taken[0] == taken[1] {
                break;
            }
            taken.clear();
        }
        let plan = flat_plan(paths, offset).to_string();
        let before = statements(&cache).await;
        let (status, body) = cache.post("uploads", plan.clone()).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["nars"].as_array().unwrap().len(), paths as usize);
        let planned = statements(&cache).await;
        sql.batch_execute(STORED).await.unwrap();
        let id = body["upload"]["id"].as_str().unwrap();
        // They do not exist, so nobody can list them; a cached plan would ask for listings else.
        let hashes: Vec<String> = (offset..offset + paths).map(|n| format!("{n:032}")).collect();
        let unlisted = json!({"no_listing": hashes}).to_string();
        assert_eq!(cache.post(&format!("uploads/{id}/stored"), unlisted).await.0, 200);
        let before_commit = statements(&cache).await;
        // One wave: they have no references.
        while cache.post(&format!("uploads/{id}/commit"), "").await.0 == 202 {}
        let committed = statements(&cache).await;
        let (status, again) = cache.post("uploads", plan).await;
        assert_eq!((status, &again["upload"]), (200, &Value::Null), "all is there: {again}");
        let cached = statements(&cache).await;
        taken.push((planned - before, committed - before_commit, cached - committed));
    }
    say(&format!("statements for (plan, commit, cached plan) of 20 and of 900 paths: {taken:?}"));
    assert!(taken[0].0 > 5 && taken[0].1 > 5 && taken[0].2 > 3, "they are counted: {taken:?}");
    assert_eq!(taken[0], taken[1]);
}

/// A store of so many tiny paths with four references each, registered without a build.
pub async fn many(paths: usize) -> (NixStore, String) {
    let store = NixStore::new(Nix::any());
    let folder = store.real("/nix/store");
    fs::create_dir_all(&folder).unwrap();
    let name = |n: usize| format!("{:032}-many", n);
    let mut registration = String::new();
    for n in 0..paths {
        // A tree of depth log2: real closures are some dozens deep, however large they are. The
        // top needs what nothing else does.
        let mut references: Vec<usize> = if n + 1 == paths {
            (paths / 2..n).collect()
        } else if n == 0 {
            Vec::new()
        } else {
            vec![n / 2, n / 3, n / 5, n / 7]
        };
        references.sort_unstable();
        references.dedup();
        let mut contents = format!("path {n}\n");
        for reference in &references {
            writeln!(contents, "/nix/store/{}", name(*reference)).unwrap();
        }
        let file = folder.join(name(n));
        fs::write(&file, contents).unwrap();
        let nar = nix_archive::nar::hash_path(&file, nix_archive::nar::CaseHack::Disabled).unwrap();
        let hash: String = nar.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(registration, "/nix/store/{}\n{hash}\n{}\n\n", name(n), nar.size).unwrap();
        writeln!(registration, "{}", references.len()).unwrap();
        for reference in &references {
            writeln!(registration, "/nix/store/{}", name(*reference)).unwrap();
        }
    }
    let mut load = store.program("nix-store");
    load.args(["--store", &store.root(), "--load-db"]).stdin(Stdio::piped());
    let mut load = load.spawn().unwrap();
    load.stdin.take().unwrap().write_all(registration.as_bytes()).await.unwrap();
    assert!(load.wait().await.unwrap().success());
    (store, format!("/nix/store/{}", name(paths - 1)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_with_everything_cached_is_one_request_and_little_work() {
    let paths = if long_profile() { 10_000 } else { 2_000 };
    let (store, top) = many(paths).await;
    let closure = store.closure(std::slice::from_ref(&top)).await.len();
    assert_eq!(closure, paths, "the top needs them all");
    let cache = TestCache::start_with(ServerOptions::args(&["--debug"])).await;
    let started = Instant::now();
    cache.push(&store, std::slice::from_ref(&top)).await.ok();
    say(&format!("first push of {paths} paths: {:.1} s", started.elapsed().as_secs_f64()));
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), paths);

    let requests = |log: &str| log.matches("finished processing request").count();
    let before = requests(&cache.server.log());
    // The shell tells how much processor time its child took.
    let push = cache.command(&store, "push", std::slice::from_ref(&top));
    let push = push.as_std();
    let mut timed = tokio::process::Command::new("bash");
    timed.env_clear();
    timed.envs(push.get_envs().filter_map(|(name, value)| Some((name, value?))));
    timed.args(["-c", "TIMEFORMAT='cpu %U %S'; time \"$@\"", "bash"]);
    timed.arg(push.get_program()).args(push.get_args());
    let started = Instant::now();
    let again = run(&mut timed).await.ok();
    let wall = started.elapsed().as_secs_f64();
    assert!(again.stderr.contains("nothing to send"), "{}", again.stderr);
    assert_eq!(requests(&cache.server.log()) - before, 1, "one request");
    let cpu: f64 = again
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("cpu "))
        .unwrap()
        .split_whitespace()
        .map(|seconds| seconds.parse::<f64>().unwrap())
        .sum();
    say(&format!("cached push of {paths} paths: {cpu:.2} s of CPU, {wall:.2} s"));
    assert!(cpu < 2.0, "{cpu} s of CPU for {paths} cached paths");
}
