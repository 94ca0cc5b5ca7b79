//! Bad input: a clear error, and nothing committed.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::support::{Nix, NixStore, TOKEN, TestCache, client, fixture, run, shared_store};

async fn assert_nothing_committed(cache: &TestCache) {
    for table in ["closures", "narinfos", "holds"] {
        assert_eq!(cache.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    assert!(cache.bucket.keys_ending(".narinfo").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_store_is_refused() {
    let (store, _) = shared_store().await;
    let cache = TestCache::start().await;
    let unknown = "/nix/store/26xbg1ndr7hbcncrlf9nhx5is2b25d13-unknown".to_owned();
    cache
        .push(store, std::slice::from_ref(&unknown))
        .await
        .failed(5, &["error:", &unknown[11..], "not"]);
    cache.push(store, &["./no/such/link".to_owned()]).await.failed(5, &["no/such/link"]);
    let file = cache.dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap().to_owned();
    cache.push(store, std::slice::from_ref(&file)).await.failed(5, &[&file]);
    assert_nothing_committed(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_in_the_store_is_refused_with_both_hashes() {
    let store = NixStore::new(Nix::any());
    let roots = store.build(&fixture(), &["-A", "all"]).await;
    let cache = TestCache::start().await;
    let file = roots.iter().map(|root| store.real(root)).find(|root| root.is_file()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut contents = fs::read(&file).unwrap();
    contents[0] ^= 1;
    fs::write(&file, contents).unwrap();
    let run = cache.push(&store, &roots).await;
    let run = run.failed(5, &["is damaged", "Nix recorded sha256:", "hash to sha256:", "hint:"]);
    assert!(run.stderr.contains(file.file_name().unwrap().to_str().unwrap()), "{}", run.stderr);
    assert_nothing_committed(&cache).await;
    // What was undamaged is not sent again once the path is mended.
    let mut contents = fs::read(&file).unwrap();
    contents[0] ^= 1;
    fs::write(&file, contents).unwrap();
    cache.push(&store, &roots).await.ok();
    cache.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_database_that_is_missing_or_locked_is_said() {
    let store = NixStore::new(Nix::any());
    let roots = store.build(&fixture(), &["-A", "all"]).await;
    let cache = TestCache::start().await;

    let locker = rusqlite::Connection::open(store.database()).unwrap();
    locker.pragma_update(None, "journal_mode", "delete").unwrap();
    locker.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let locked = cache.push(&store, &roots).await;
    locked.failed(5, &["locked", "db.sqlite"]);
    locker.execute_batch("ROLLBACK").unwrap();
    drop(locker);

    let gone = store.dir.path().join("gone");
    fs::rename(store.database(), &gone).unwrap();
    // Without Nix on the machine there is nobody else to ask.
    let mut push = cache.command(&store, "push", &roots);
    let run_missing = run(push.env("PATH", "/nonexistent")).await;
    run_missing.failed(5, &["db.sqlite", "nix"]);
    assert_nothing_committed(&cache).await;
    fs::rename(&gone, store.database()).unwrap();
    cache.push(&store, &roots).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_or_is_none_is_said() {
    let (store, roots) = shared_store().await;
    let mut cache = TestCache::start().await;
    let push = |url: &str, token: &str| {
        let mut push = client(store);
        push.args(["push", "--server-url", url, "--store", &store.root(), &roots[0]]);
        push.env("NIKS3_AUTH_TOKEN", token);
        push
    };
    let wrong = run(&mut push(&cache.server.url(), "wrong-token")).await;
    let wrong = wrong.failed(4, &["401", "bearer token", "hint:"]);
    assert!(!wrong.stderr.contains("wrong-token"), "{}", wrong.stderr);
    // The bucket's URL, as people who know `nix copy` would give it.
    let bucket = run(&mut push(cache.bucket.reader(), TOKEN)).await;
    bucket.failed(4, &["not as a niks3 server", "not of the bucket"]);
    let url = cache.server.url();
    cache.server.kill().await;
    let dead = run(&mut push(&url, TOKEN)).await;
    let dead = dead.failed(3, &["cannot reach the niks3 server", &url, "because"]);
    assert!(!dead.stderr.contains(TOKEN));
    assert_nothing_committed(&cache).await;
}
