//! Content-addressed derivations: what is in the cache need not be built.

use std::collections::BTreeSet;

use niks3_core::{
    object_key::ObjectKey,
    realisation::{OutputId, Realisation},
    signing::SigningKey,
};

use crate::support::{
    Nix, NixStore, Run, SIGNING_KEY, ServerOptions, TestCache, assert_same_tree, fixture, run,
};

/// What is content-addressed, and what is built on it.
const ALL: [&str; 6] = ["-A", "ca", "-A", "caSplit.out", "-A", "caSplit.dev"];

/// A store in which all of it is built, and the outputs.
async fn built(nix: &Nix) -> (NixStore, Vec<String>) {
    let store = NixStore::new(nix);
    let roots = store.build(&fixture(), &ALL).await;
    (store, roots)
}

/// Has Nix realise some of it in an empty store from the cache alone: it may build nothing.
async fn realise(reader: &NixStore, cache: &TestCache, attributes: &[&str]) -> Run {
    let mut build = reader.program("nix-build");
    build.args(["--no-out-link", "--store", &reader.root()]).arg(fixture()).args(attributes);
    build.args(["--option", "substituters", cache.bucket.reader()]);
    build.args(["--max-jobs", "0", "--option", "builders", ""]);
    run(&mut build).await
}

async fn assert_realised(cache: &TestCache, store: &NixStore, roots: &[String]) {
    for nix in Nix::all() {
        let reader = NixStore::new(nix);
        // `caSplit` needs itself: Nix 2.8 and later ones do not take each other's.
        let (attributes, roots) = match nix.is_old() == store.nix.is_old() {
            true => (&ALL[..], roots),
            false => (&ALL[..2], &roots[..3]),
        };
        let realised = realise(&reader, cache, attributes).await.ok();
        let outputs: Vec<&str> = realised.stdout.lines().collect();
        assert_eq!(outputs, roots, "{} reads what {} built", nix.version, store.nix.version);
        for root in roots {
            assert_same_tree(&store.real(root), &reader.real(root));
        }
    }
}

/// The keys of realisations in a layout.
async fn keys(cache: &TestCache, folder: &str) -> BTreeSet<String> {
    let keys = cache.bucket.keys().await.into_iter();
    keys.filter(|key| key.starts_with(folder)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_nix_built_no_nix_builds_again() {
    for nix in Nix::all() {
        let (store, roots) = built(nix).await;
        let cache = TestCache::start().await;
        // It is the cache that spares the work.
        let alone = realise(&NixStore::new(nix), &cache, &ALL).await;
        assert_ne!(alone.code, Some(0), "{}", alone.stderr);
        cache.push(&store, &roots).await.ok();
        assert_realised(&cache, &store, &roots).await;
        cache.assert_fsck(&["--s3"], "realisations").await;
        let again = cache.push(&store, &roots).await.ok();
        assert!(again.stderr.contains("nothing to send"), "{}", again.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn realisations_without_encoding_are_read_by_every_nix() {
    let (store, roots) = built(Nix::any()).await;
    let options = ServerOptions::args(&["--metadata-encoding", "none"]);
    let cache = TestCache::start_with(options).await;
    cache.push(&store, &roots).await.ok();
    assert_realised(&cache, &store, &roots).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_output_is_named_in_both_layouts_and_signed() {
    let key: SigningKey = SIGNING_KEY.parse().unwrap();
    for nix in Nix::all() {
        let (store, roots) = built(nix).await;
        let cache = TestCache::start().await;
        cache.push(&store, &roots).await.ok();
        let mut newer = BTreeSet::new();
        for name in
            keys(&cache, "realisations/").await.union(&keys(&cache, "build-trace-v2/").await)
        {
            let id = OutputId::of_key(&name.parse::<ObjectKey>().unwrap()).unwrap();
            let found = Realisation::parse(&id, &cache.bucket.text(name).await).unwrap();
            assert!(found.signatures.contains(&key.sign(&found.fingerprint())), "{name}");
            if let OutputId::Derived(derivation, _) = &found.id {
                newer.insert((found.path.name().to_owned(), derivation.name().to_owned()));
            }
        }
        // All that is content-addressed and known only when it is built.
        let expected = [
            ("ca-leaf", "ca-leaf.drv"),
            ("ca-split", "ca-split.drv"),
            ("ca-split-dev", "ca-split.drv"),
            ("ca-structured", "ca-structured.drv"),
            ("ca-top", "ca-top.drv"),
        ];
        let expected = expected.map(|(path, drv)| (path.to_owned(), drv.to_owned()));
        assert_eq!(newer, BTreeSet::from(expected), "{}", nix.version);
    }
}

/// As if Nix 2.35 had built it: its table says of the resolved derivations what they are.
fn renew(store: &NixStore) {
    let database = rusqlite::Connection::open(store.database()).unwrap();
    let change = "CREATE TABLE BuildTraceV3 (
             id integer primary key autoincrement not null, drvPath text not null,
             outputName text not null, outputPath text not null, signatures text);
         CREATE INDEX IndexBuildTraceV3 on BuildTraceV3(drvPath, outputName);
         INSERT INTO BuildTraceV3(drvPath, outputName, outputPath)
             SELECT DISTINCT substr(v.deriver, 12), r.outputName, v.path
             FROM Realisations r JOIN ValidPaths v ON v.id = r.outputPath;
         DELETE FROM RealisationsRefs; DELETE FROM Realisations;";
    database.execute_batch(change).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nix_2_35_built_is_read_by_the_earlier_ones() {
    let (store, roots) = built(Nix::any()).await;
    renew(&store);
    let cache = TestCache::start().await;
    cache.push(&store, &roots).await.ok();
    assert!(!keys(&cache, "build-trace-v2/").await.is_empty());
    assert_realised(&cache, &store, &roots).await;
}
