//! What we write is what Nix itself writes of the same store with the same key.

use serde_json::Value;
use std::path::Path;

use crate::support::{Nix, NixStore, TestCache, fields, fixture, run, write};

/// Nix's own cache in a folder, of these paths, or of what these attributes build.
async fn copy_with_nix(store: &NixStore, what: &[String]) -> std::path::PathBuf {
    let (cache, key) = (store.dir.path().join("cache"), store.dir.path().join("key"));
    write(&key, crate::support::SIGNING_KEY);
    let url = format!(
        "file://{}?compression=zstd&write-nar-listing=1&index-debug-info=1&secret-key={}",
        cache.display(),
        key.display()
    );
    let mut copy = store.program("nix");
    copy.args(["copy", "--from", &store.root(), "--to", &url, "--no-check-sigs"]).args(what);
    run(&mut copy).await.ok();
    cache
}

#[tokio::test(flavor = "multi_thread")]
async fn realisations_and_debug_info_are_those_of_nix() {
    for nix in Nix::all() {
        let store = NixStore::new(nix);
        let attributes = ["-A", "ca", "-A", "caSplit.out", "-A", "caSplit.dev", "-A", "debug"];
        let roots = store.build(&fixture(), &attributes).await;
        let cache = TestCache::start().await;
        let args = [&["--index-debug-info".to_owned()], roots.as_slice()].concat();
        cache.client(&store, "push", &args).await.ok();
        // Named by what builds them: of mere paths, Nix copies no realisations.
        let file = fixture();
        let what = ["--file", file.to_str().unwrap(), "onCa", "caTop", "caSplit", "debug"];
        let theirs = copy_with_nix(&store, &what.map(str::to_owned)).await;
        let (mut realisations, mut debug_files) = (0, 0);
        for entry in std::fs::read_dir(theirs.join("realisations")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let their = std::fs::read_to_string(theirs.join("realisations").join(&name)).unwrap();
            let mine = cache.bucket.text(&format!("realisations/{name}")).await;
            // Nix signs a realisation where it is built; the server signs ours.
            let (mine, _) = mine.split_once(r#","signatures":["#).unwrap();
            let (their, _) = their.split_once(r#","signatures":["#).unwrap();
            assert_eq!(mine, their, "{name} with {}", nix.version);
            realisations += 1;
        }
        for entry in std::fs::read_dir(theirs.join("debuginfo")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let their = std::fs::read_to_string(theirs.join("debuginfo").join(&name)).unwrap();
            let mine = cache.bucket.text(&format!("debuginfo/{name}")).await;
            let (mine_nar, their_nar) = (nar_named(&mine), nar_named(&their));
            assert_eq!(mine.replace(&mine_nar, &their_nar), their, "{name}");
            debug_files += 1;
        }
        assert!(realisations >= 5 && debug_files == 1, "{realisations} {debug_files}");
    }
}

/// The NAR that a debug file lies in.
fn nar_named(text: &str) -> String {
    serde_json::from_str::<Value>(text).unwrap()["archive"].as_str().unwrap().to_owned()
}

fn nar_of(body: &[u8]) -> Vec<u8> {
    zstd::decode_all(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn narinfos_listings_nars_and_signatures_are_those_of_nix() {
    for nix in Nix::all() {
        let store = NixStore::new(nix);
        let roots = store.build(&fixture(), &["-A", "all"]).await;
        let cache = TestCache::start().await;
        cache.push(&store, &roots).await.ok();
        let theirs = copy_with_nix(&store, &roots).await;
        let mut compared = 0;
        for entry in std::fs::read_dir(&theirs).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let read = |name: &str| std::fs::read(theirs.join(name)).unwrap();
            if name.ends_with(".narinfo") {
                let mine = cache.bucket.text(&name).await;
                let their = String::from_utf8(read(&name)).unwrap();
                assert_same_narinfo(&mine, &their);
                let (mine, their) = (fields(&mine), fields(&their));
                let (body, _, _) = cache.bucket.raw(&mine["URL"]).await.unwrap();
                assert_eq!(nar_of(&body), nar_of(&read(&their["URL"])), "{name}");
                compared += 1;
            } else if name.ends_with(".ls") {
                let (mine, their) = (cache.bucket.text(&name).await, read(&name));
                let their = String::from_utf8(their).unwrap();
                if nix.is_old() {
                    // 2.8 writes the keys of a file in another order.
                    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                    assert_eq!(read(&mine), read(&their), "{name}");
                } else {
                    assert_eq!(mine, their, "{name}");
                }
                compared += 1;
            }
        }
        let closure = store.closure(&roots).await.len();
        assert_eq!(compared, 2 * closure, "nix {}", nix.version);
    }
}

/// Line by line, in order. What lies behind a name of our own and how well zstd did differ.
fn assert_same_narinfo(mine: &str, their: &str) {
    assert!(mine.ends_with('\n'));
    for (mine, their) in mine.lines().zip(their.lines()) {
        let name = their.split(':').next().unwrap();
        if ["URL", "FileHash", "FileSize"].contains(&name) {
            assert!(mine.starts_with(name), "{mine} {their}");
        } else {
            assert_eq!(mine, their);
        }
    }
    assert_eq!(mine.lines().count(), their.lines().count(), "{mine}\n{their}");
}

/// The samples that `shared/nix` keeps of three Nix versions, copied into `tests/data`.
#[tokio::test(flavor = "multi_thread")]
async fn the_signing_key_of_the_samples_gives_the_signatures_of_the_samples() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/leaf.narinfo");
    let text = std::fs::read_to_string(sample).unwrap();
    let fields = fields(&text);
    let key: niks3_core::signing::SigningKey = crate::support::SIGNING_KEY.parse().unwrap();
    let fingerprint =
        format!("1;{};{};{};", fields["StorePath"], fields["NarHash"], fields["NarSize"]);
    assert_eq!(fields["References"], "");
    assert_eq!(key.sign(&fingerprint).to_string(), fields["Sig"]);
}
