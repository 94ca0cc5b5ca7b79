//! `niks3-server resign`: what is there gets signatures by other keys, and readers see it.

use std::collections::BTreeSet;

use niks3_core::{
    object_key::ObjectKey,
    realisation::{OutputId, Realisation},
    signing::SigningKey,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    gc::{everything, short_lived},
    support::{Graph, Nix, NixStore, PUBLIC_KEY, Run, TestCache, program, run, shared_store},
};

/// The name of the key that every test server signs with.
pub const KEY_A: &str = "binary-cache-test-1";
/// Another one, that tests change to.
pub const KEY_B: &str = "binary-cache-test-2";

/// A key of this name, always the same.
fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(name, &[name.as_bytes()[name.len() - 1]; 32]).unwrap()
}

impl TestCache {
    /// A file with a key of this name.
    pub fn key_file(&self, name: &str) -> String {
        let file = self.dir.path().join(name);
        std::fs::write(&file, key(name).secret_text()).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// `niks3-server resign` with a key of this name, not yet started.
    pub fn resign_command(&self, key: &str, args: &[&str]) -> Command {
        let mut command = program();
        command.arg("resign").args(self.server.fsck_arguments());
        command.args(["--sign-key-path", &self.key_file(key)]).args(args).kill_on_drop(true);
        command
    }

    /// Runs it.
    pub async fn resign(&self, key: &str, args: &[&str]) -> Run {
        run(&mut self.resign_command(key, args)).await
    }

    /// Runs it, and it ended well; answers the report.
    pub async fn resigned(&self, key: &str, args: &[&str]) -> Value {
        let run = run(self.resign_command(key, args).arg("--json")).await.ok();
        serde_json::from_str(&run.stdout).unwrap()
    }

    /// Every narinfo and realisation in the bucket has signatures by these keys and no others, and is what is
    /// recorded.
    pub async fn assert_signed_by(&self, names: &[&str]) {
        let wanted: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        let mut recorded = std::collections::BTreeMap::new();
        let texts = "SELECT o.key, n.narinfo FROM narinfos n JOIN objects o ON o.id = n.object_id \
                     UNION ALL \
                     SELECT o.key, a.text FROM attachments a JOIN objects o ON o.id = a.object_id";
        for row in self.sql().await.query(texts, &[]).await.unwrap() {
            recorded.insert(row.get::<_, String>(0), row.get::<_, String>(1));
        }
        for key in self.bucket.keys().await {
            let is_signed = key.ends_with(".narinfo") || key.ends_with(".doi");
            if is_signed {
                let text = self.bucket.text(&key).await;
                assert_eq!(signers(&key, &text), wanted, "{key}: {text}");
                assert_eq!(recorded.get(&key), Some(&text), "{key}");
            }
        }
        assert_eq!(self.count("SELECT count(*) FROM resigned").await, 0, "left to send");
    }
}

/// The names of the keys that signed a narinfo or realisation.
fn signers(key: &str, text: &str) -> BTreeSet<String> {
    let parsed: ObjectKey = key.parse().unwrap();
    if let Some(id) = OutputId::of_key(&parsed) {
        let realisation = Realisation::parse(&id, text).unwrap();
        return realisation.signatures.iter().map(|one| one.key_name().to_owned()).collect();
    }
    let values = text.lines().filter_map(|line| line.strip_prefix("Sig: "));
    values.map(|value| value.split_once(':').unwrap().0.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_change_of_keys_readers_of_either_read_all_and_then_only_those_of_the_new_one() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start_with(short_lived()).await;
    cache.push(store, roots).await.ok();
    cache.assert_signed_by(&[KEY_A]).await;
    let (new, url) = (key(KEY_B).public_key(), cache.bucket.reader());

    // What was just written may be written still: it is waited for.
    let added = cache.resigned(KEY_B, &[]).await;
    let texts = added["looked_at"].as_u64().unwrap();
    assert!(texts >= store.closure(roots).await.len() as u64, "{added}");
    assert_eq!((&added["resigned"], &added["sent"]), (&json!(texts), &json!(texts)), "{added}");
    cache.assert_signed_by(&[KEY_A, KEY_B]).await;
    for nix in Nix::all() {
        for trusted in [PUBLIC_KEY, &new] {
            NixStore::trusting(nix, trusted).substitute(url, roots).await.ok();
        }
    }
    // All is as it shall be: nothing is changed, nothing sent.
    let again = cache.resigned(KEY_B, &["--add"]).await;
    assert_eq!((&again["resigned"], &again["sent"]), (&json!(0), &json!(0)), "{again}");

    let replaced = cache.resign(KEY_B, &["--replace", KEY_A]).await.ok();
    assert!(
        replaced.stdout.contains(&format!("{texts} signed anew, {texts} sent")),
        "{replaced:?}"
    );
    cache.assert_signed_by(&[KEY_B]).await;
    for nix in Nix::all() {
        NixStore::trusting(nix, &new).substitute(url, roots).await.ok();
        let old = NixStore::trusting(nix, PUBLIC_KEY).substitute(url, roots).await;
        assert_ne!(old.code, Some(0), "{old:?}");
    }
    cache.assert_consistent().await;
    cache.assert_fsck(&["--s3"], "after the change").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_two_keys_signs_all_with_both() {
    let (store, roots) = shared_store().await;
    let mut cache = TestCache::start().await;
    let second = cache.key_file(KEY_B);
    cache.server.restart_with(&["--sign-key-path", &second]).await;
    cache.push(store, roots).await.ok();
    cache.assert_signed_by(&[KEY_A, KEY_B]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_have_no_signature_is_left_as_it_is_and_said() {
    let cache = TestCache::start().await;
    cache.push_by_hand(&Graph::chain(&["lib", "app"]), 1).await;
    cache.quiet().await;
    let mut without = program();
    without.arg("resign").args(cache.server.fsck_arguments()).args(["--replace", KEY_A]);
    let refused = run(&mut without).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains("2 cannot be signed otherwise"), "{}", refused.stdout);
    assert!(refused.stdout.contains("it would have no signature at all"), "{}", refused.stdout);
    cache.assert_signed_by(&[KEY_A]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_garbage_or_not_published_has_the_new_signatures_when_it_comes_back() {
    let cache = TestCache::start_with(short_lived()).await;
    let mut graph = Graph::chain(&["lib", "app", "top"]);
    graph.0[1].realises = Some("app".to_owned());
    cache.push_by_hand(&graph, 2).await;
    cache.quiet().await;

    // Condemned; its grace lasts.
    let old = "UPDATE closures SET pushed_at = now() - interval '2 hours'";
    cache.sql().await.batch_execute(old).await.unwrap();
    let parameters = json!({"older_than": 3600, "failed_uploads_older_than": 21600});
    let progress = cache.collected(&parameters).await;
    assert_eq!(progress["old-closures-deleted"], 1, "{progress}");
    assert!(cache.count("SELECT count(*) FROM objects WHERE condemned_at IS NOT NULL").await > 5);
    let replaced = cache.resigned(KEY_B, &["--replace", KEY_A]).await;
    assert_eq!((&replaced["resigned"], &replaced["sent"]), (&json!(5), &json!(5)), "{replaced}");
    cache.push_by_hand(&graph, 2).await;
    assert_eq!(cache.count("SELECT count(*) FROM objects WHERE condemned_at IS NOT NULL").await, 0);
    cache.assert_signed_by(&[KEY_B]).await;

    // Composed, and not in the bucket.
    cache.quiet().await;
    let top = graph.narinfo(2);
    cache.bucket.delete(&top).await;
    let lost = format!("UPDATE objects SET stored_at = NULL WHERE key = '{top}'");
    cache.sql().await.batch_execute(&lost).await.unwrap();
    let key_c = "binary-cache-test-3";
    let replaced = cache.resigned(key_c, &["--replace", KEY_B]).await;
    assert_eq!((&replaced["resigned"], &replaced["sent"]), (&json!(5), &json!(4)), "{replaced}");
    assert!(cache.bucket.raw(&top).await.is_none(), "it was published by nobody");
    cache.push_by_hand(&graph, 2).await;
    cache.assert_signed_by(&[key_c]).await;
    cache.assert_consistent().await;
    cache.assert_fsck(&["--s3"], "at the end").await;
    // Nothing keeps any of it beyond its time.
    cache.quiet().await;
    cache.collected(&everything()).await;
    assert!(cache.bucket.keys_ending(".narinfo").await.is_empty());
}
