//! What was pushed is read with each Nix, signatures required.

use crate::support::{
    Nix, NixStore, ServerOptions, TestCache, assert_same_tree, fixture, shared_store,
};

/// Reads `roots` back with `nix` in every way that Nix has, and compares with `store`.
async fn assert_readable(cache: &TestCache, nix: &Nix, store: &NixStore, roots: &[String]) {
    let reader = NixStore::new(nix);
    let url = cache.bucket.reader();
    let closure = store.closure(roots).await;
    reader.substitute(url, roots).await.ok();
    for path in &closure {
        assert_same_tree(&store.real(path), &reader.real(path));
    }
    let mut there = reader.all_paths().await;
    let mut needed = closure.clone();
    there.sort();
    needed.sort();
    assert_eq!(there, needed, "the closure and nothing else was copied");

    let args = |command: &[&str]| -> Vec<String> {
        command.iter().map(ToString::to_string).chain(closure.iter().cloned()).collect()
    };
    // In the new store and in the cache itself: contents, and who signed.
    for store in [reader.root().as_str(), url] {
        let verify = args(&["store", "verify", "--store", store]);
        let verify: Vec<&str> = verify.iter().map(String::as_str).collect();
        reader.run("nix", &verify).await.ok();
    }
    let info = args(&["path-info", "--json", "--store", url]);
    let info: Vec<&str> = info.iter().map(String::as_str).collect();
    let info = reader.run("nix", &info).await.ok().stdout;
    for path in &closure {
        let base_name = path.rsplit('/').next().unwrap();
        assert!(info.contains(base_name), "{path} is not in {info}");
    }
    assert!(info.contains("binary-cache-test-1:"), "no signature in {info}");
    let folder = roots.iter().find(|root| store.real(root).is_dir()).unwrap();
    let listed = reader.run("nix", &["store", "ls", "-R", "--store", url, folder]).await.ok();
    for entry in std::fs::read_dir(store.real(folder)).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(listed.stdout.contains(name.to_str().unwrap()), "{name:?}: {}", listed.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_closure_is_read_by_every_nix_file_by_file() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    cache.assert_consistent().await;
    for nix in Nix::all() {
        assert_readable(&cache, nix, store, roots).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_without_encoding_is_read_by_every_nix() {
    let (store, roots) = shared_store().await;
    let options = ServerOptions::args(&["--metadata-encoding", "none"]);
    let cache = TestCache::start_with(options).await;
    cache.push(store, roots).await.ok();
    cache.assert_consistent().await;
    for key in cache.bucket.keys().await {
        let (_, encoding, _) = cache.bucket.raw(&key).await.unwrap();
        assert_eq!(encoding, None, "{key}");
    }
    for nix in Nix::all() {
        assert_readable(&cache, nix, store, roots).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_has_the_type_and_encoding_that_it_should() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    let closure = store.closure(roots).await;
    let (mut narinfos, mut listings) = (0, 0);
    for key in cache.bucket.keys().await {
        let (_, encoding, kind) = cache.bucket.raw(&key).await.unwrap();
        let expected = match key.rsplit('.').next().unwrap() {
            "narinfo" => (Some("zstd"), "text/x-nix-narinfo"),
            "ls" | "doi" => (Some("zstd"), "application/json"),
            "drv" => (Some("zstd"), "text/plain; charset=utf-8"),
            "zst" => (None, "application/x-nix-nar"),
            _ => (None, "text/x-nix-cache-info"),
        };
        assert_eq!((encoding.as_deref(), kind.as_deref()), (expected.0, Some(expected.1)), "{key}");
        let kept = match expected.1 {
            "application/x-nix-nar" => "public, max-age=31536000, immutable",
            "text/x-nix-cache-info" => "no-cache",
            _ => "public, max-age=3600",
        };
        assert_eq!(
            cache.bucket.header(&key, "cache-control").await.as_deref(),
            Some(kept),
            "{key}"
        );
        narinfos += usize::from(key.ends_with(".narinfo"));
        listings += usize::from(key.ends_with(".ls"));
    }
    assert_eq!((narinfos, listings), (closure.len(), closure.len()));
    assert_eq!(
        cache.bucket.text("nix-cache-info").await,
        "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn types_and_how_long_they_are_kept_are_settings_also_of_a_nar_in_parts() {
    let store = NixStore::new(Nix::any());
    let small = store.add_noise("small", 1, 1000).await;
    let large = store.add_noise("large", 2, 10_000_000).await;
    let cache = TestCache::start_with(ServerOptions::args(&[
        "--cache-control=nar=public, max-age=60",
        "--cache-control=narinfo=",
        "--content-type=nar=application/x-our-nar",
        "--content-type=listing=text/x-listing; charset=utf-8",
    ]))
    .await;
    cache.push(&store, &[small]).await.ok();
    let args = ["--multipart-threshold", "1MB", &large].map(str::to_owned);
    cache.client(&store, "push", &args).await.ok();
    for key in cache.bucket.keys().await {
        let header = async |name| cache.bucket.header(&key, name).await;
        let said = (header("content-type").await, header("cache-control").await);
        let expected = match key.rsplit('.').next().unwrap() {
            "narinfo" => ("text/x-nix-narinfo", None),
            "ls" => ("text/x-listing; charset=utf-8", Some("public, max-age=3600")),
            "zst" => ("application/x-our-nar", Some("public, max-age=60")),
            _ => continue,
        };
        let expected = (Some(expected.0.to_owned()), expected.1.map(str::to_owned));
        assert_eq!(said, expected, "{key}");
    }
    assert_eq!(cache.bucket.keys_ending(".nar.zst").await.len(), 2);
    cache.assert_realisable().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_utf8_costs_the_listing_not_the_push() {
    let store = NixStore::new(Nix::any());
    let roots = store.build(&fixture(), &["-A", "notUtf8"]).await;
    let cache = TestCache::start().await;
    let first = cache.push(&store, &roots).await.ok();
    assert!(first.stderr.contains("warning") && first.stderr.contains("UTF-8"), "{}", first.stderr);
    assert!(cache.bucket.keys_ending(".ls").await.is_empty());
    for nix in Nix::all() {
        let reader = NixStore::new(nix);
        reader.substitute(cache.bucket.reader(), &roots).await.ok();
        assert_same_tree(&store.real(&roots[0]), &reader.real(&roots[0]));
    }
    // It is not asked for again.
    let again = cache.push(&store, &roots).await.ok();
    assert!(!again.stderr.contains("warning"), "{}", again.stderr);
    assert_eq!(cache.count("SELECT count(*) FROM uploads").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn derivations_are_pushed_and_read() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    let mut args = vec!["--derivation".to_owned()];
    let derivers = store
        .program("nix-store")
        .args(["--store", &store.root(), "-q", "--deriver"])
        .arg(&roots[0])
        .output()
        .await
        .unwrap();
    let deriver = String::from_utf8(derivers.stdout).unwrap().trim().to_owned();
    args.push(deriver.clone());
    cache.client(store, "copy", &args).await.ok();
    cache.assert_consistent().await;
    let reader = NixStore::new(Nix::any());
    let mut copy = reader.program("nix");
    copy.args(["copy", "--derivation", "--from", cache.bucket.reader(), "--to", &reader.root()]);
    crate::support::run(copy.arg(&deriver)).await.ok();
    assert_same_tree(&store.real(&deriver), &reader.real(&deriver));
}

/// Each Nix builds for itself what it then pushes and reads: the project's own fixture, and what
/// `NIKS3_TEST_SHARED_FIXTURE` names, which `.ci/run` sets. One of the paths there, a content-addressed
/// one that refers to itself, is another in Nix 2.8 than later.
#[tokio::test(flavor = "multi_thread")]
async fn what_each_nix_builds_is_pushed_and_read_by_it() {
    let mut fixtures = vec![(fixture(), vec!["-A", "all"])];
    if let Some(shared) = std::env::var_os("NIKS3_TEST_SHARED_FIXTURE") {
        fixtures.push((shared.into(), Vec::new()));
    }
    for nix in Nix::all() {
        for (file, args) in &fixtures {
            let store = NixStore::new(nix);
            let roots = store.build(file, args).await;
            let cache = TestCache::start().await;
            cache.push(&store, &roots).await.ok();
            cache.assert_consistent().await;
            assert_readable(&cache, nix, &store, &roots).await;
        }
    }
}
