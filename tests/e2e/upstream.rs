//! Paths that another cache has signed are left to it: `--upstream-key`.

use niks3_core::signing::SigningKey;
use serde_json::json;

use crate::{
    gc::{everything, short_lived},
    support::{Nix, NixStore, PUBLIC_KEY, ServerOptions, TestCache, create_database, run, write},
};

/// The key that the other cache signs with, and readers trust.
fn key() -> SigningKey {
    SigningKey::from_seed("upstream-test-1", &[9; 32]).unwrap()
}

const EXPRESSION: &str = r#"
let
  drv = name: script: derivation {
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-euc" script ];
    PATH = "/usr/bin:/bin";
  };
in rec {
  glibc = drv "glibc" "echo glibc > $out";
  lib = drv "lib" "echo ${glibc} > $out";
  app = drv "app" "echo ${lib} ${glibc} > $out";
}
"#;

/// A store in which `app` needs `lib` and both need `glibc`; the last two are signed by the other cache,
/// which is a folder.
struct Upstream {
    store: NixStore,
    app: Vec<String>,
    lib: String,
    folder: tempfile::TempDir,
}

impl Upstream {
    async fn new() -> Self {
        let store = NixStore::new(Nix::any());
        let file = store.dir.path().join("upstream.nix");
        write(&file, EXPRESSION);
        let app = store.build(&file, &["-A", "app"]).await;
        let lib = store.build(&file, &["-A", "lib"]).await.remove(0);
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("key");
        write(&secret, &key().secret_text());
        let root = store.root();
        let sign = ["store", "sign", "--store", &root, "--recursive", "--key-file"];
        run(store.program("nix").args(sign).arg(&secret).arg(&lib)).await.ok();
        let upstream = Self { store, app, lib, folder };
        let copy = ["copy", "--from", &root, "--to", &upstream.url(), &upstream.lib];
        upstream.store.run("nix", &copy).await.ok();
        upstream
    }

    fn url(&self) -> String {
        format!("file://{}/cache", self.folder.path().display())
    }

    /// A reader of both caches realises `app`.
    async fn assert_realised(&self, cache: &TestCache) {
        let reader = NixStore::new(Nix::any());
        let both = format!("{} {}", cache.bucket.reader(), self.url());
        let trusted = format!("{PUBLIC_KEY} {}", key().public_key());
        let mut realise = reader.program("nix-store");
        realise.args(["--realise", "--store", &reader.root(), "--option", "max-jobs", "0"]);
        realise.args([
            "--option",
            "substituters",
            &both,
            "--option",
            "trusted-public-keys",
            &trusted,
        ]);
        run(realise.args(&self.app)).await.ok();
    }
}

fn signed_args(upstream: &Upstream) -> Vec<String> {
    let mut args = vec!["--upstream-key".to_owned(), key().public_key()];
    args.extend(upstream.app.iter().cloned());
    args
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_cache_has_signed_is_left_to_it_and_readers_of_both_have_all() {
    let upstream = Upstream::new().await;
    let cache = TestCache::start_with(short_lived()).await;
    let args = signed_args(&upstream);
    let mut dry = vec!["--dry-run".to_owned()];
    dry.extend(args.iter().cloned());
    let dry = cache.push(&upstream.store, &dry).await.ok();
    assert!(dry.stderr.contains("2 of 3 paths are left"), "{}", dry.stderr);
    let pushed = cache.push(&upstream.store, &args).await.ok();
    assert!(pushed.stderr.contains("2 of 3 paths are left"), "{}", pushed.stderr);
    assert!(pushed.stderr.contains("sending 1 NAR"), "{}", pushed.stderr);
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 1);
    upstream.assert_realised(&cache).await;
    cache.assert_fsck(&["--s3"], "with paths of another cache").await;
    let again = cache.push(&upstream.store, &args).await.ok();
    assert!(again.stderr.contains("nothing to send"), "{}", again.stderr);

    // Nothing is deleted that this cache has not: and what it has goes as ever.
    cache.collected(&json!({"older_than": 3600, "failed_uploads_older_than": 0})).await;
    upstream.assert_realised(&cache).await;
    cache.quiet().await;
    cache.collected(&everything()).await;
    cache.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_without_the_key_sends_them_and_then_they_are_ordinary() {
    let upstream = Upstream::new().await;
    let cache = TestCache::start_with(short_lived()).await;
    cache.push(&upstream.store, &signed_args(&upstream)).await.ok();
    let pushed = cache.push(&upstream.store, &upstream.app).await.ok();
    assert!(pushed.stderr.contains("sending 2 NARs"), "{}", pushed.stderr);
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 3);
    cache.assert_consistent().await;
    cache.assert_realisable().await;
    assert_eq!(cache.count("SELECT count(*) FROM objects WHERE is_external").await, 0);
    cache.assert_fsck(&["--s3"], "ordinary").await;
    // With the key again: they are here, and stay.
    let again = cache.push(&upstream.store, &signed_args(&upstream)).await.ok();
    assert!(again.stderr.contains("nothing to send"), "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_servers_is_followed_by_every_client() {
    let upstream = Upstream::new().await;
    let cache =
        TestCache::start_with(ServerOptions::args(&["--upstream-key", &key().public_key()])).await;
    let pushed = cache.push(&upstream.store, &upstream.app).await.ok();
    assert!(pushed.stderr.contains("2 of 3 paths are left"), "{}", pushed.stderr);
    // A root may be another cache's too.
    cache.push(&upstream.store, std::slice::from_ref(&upstream.lib)).await.ok();
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 1);
    upstream.assert_realised(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_does_not_verify_leaves_nothing_out() {
    let upstream = Upstream::new().await;
    let cache = TestCache::start().await;
    // The right name, another key.
    let other = "upstream-test-1:sIYFux311eO23+pQ9IggAnWpyzTwovjtlbb1Lyz1beY=";
    let mut args = vec!["--upstream-key".to_owned(), other.to_owned()];
    args.extend(upstream.app.iter().cloned());
    cache.push(&upstream.store, &args).await.ok();
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 3);
    args[1] = "upstream-test-1".to_owned();
    cache.push(&upstream.store, &args).await.failed(2, &["--upstream-key", "all of it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_is_repaired_with_them_if_that_is_said() {
    let upstream = Upstream::new().await;
    let mut cache = TestCache::start_with(short_lived()).await;
    cache.push(&upstream.store, &signed_args(&upstream)).await.ok();
    cache.use_database(create_database().await, short_lived()).await;
    let repair = ["--s3", "--repair", "--missing-are-external"];
    cache.assert_fsck(&repair, "repaired").await;
    assert_eq!(cache.count("SELECT count(*) FROM objects WHERE is_external").await, 2);
    upstream.assert_realised(&cache).await;
    let again = cache.push(&upstream.store, &signed_args(&upstream)).await.ok();
    assert!(again.stderr.contains("nothing to send"), "{}", again.stderr);
}
