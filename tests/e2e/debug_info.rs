//! Debug files, found by their build ids.

use serde_json::{Value, json};

use crate::support::{Nix, NixStore, TestCache, fixture};

const ID: &str = "abcdef0123456789abcdef0123456789abcdef01";

#[tokio::test(flavor = "multi_thread")]
async fn debug_files_are_indexed_when_asked_for() {
    let store = NixStore::new(Nix::any());
    let roots = store.build(&fixture(), &["-A", "debug", "-A", "program"]).await;
    let cache = TestCache::start().await;
    cache.push(&store, &roots).await.ok();
    assert!(cache.bucket.keys_ending(".debug").await.is_empty());

    // A later push brings them, by flag or by variable.
    let args = [&["--index-debug-info".to_owned()], roots.as_slice()].concat();
    cache.client(&store, "push", &args).await.ok();
    let key = format!("debuginfo/{ID}.debug");
    assert_eq!(cache.bucket.keys_ending(".debug").await, std::slice::from_ref(&key));
    let link: Value = serde_json::from_str(&cache.bucket.text(&key).await).unwrap();
    let nar = cache.bucket.narinfo_of(&roots[0]).await["URL"].clone();
    let member = format!("lib/debug/.build-id/{}/{}.debug", &ID[..2], &ID[2..]);
    assert_eq!(link, json!({"archive": format!("../{nar}"), "member": member}));
    cache.assert_fsck(&["--s3"], "debug info").await;

    let other = TestCache::start().await;
    let mut push = other.command(&store, "push", &roots);
    push.env("NIKS3_INDEX_DEBUG_INFO", "yes");
    crate::support::run(&mut push).await.ok();
    assert_eq!(other.bucket.keys_ending(".debug").await, [key]);
}
