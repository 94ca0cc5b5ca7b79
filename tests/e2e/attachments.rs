//! Realisations and debug info, on pushes made by hand: when they are there, whose they are, and when they
//! go.

use niks3_core::{
    debug_info,
    object_key::ObjectKey,
    realisation::{OutputId, Realisation},
    signing::SigningKey,
};
use tokio::time::sleep;

use crate::{
    gc::{ALL_URLS_EXPIRED, everything, short_lived},
    gc_accidents::{deletes, short_lived_behind_proxy},
    support::{Fault, Graph, HandPush, SIGNING_KEY, TestCache, create_database, each, first_try},
};

/// `app` refers to `lib`; both have attachments.
fn graph() -> Graph {
    let mut graph = Graph::chain(&["lib", "app"]);
    for path in &mut graph.0 {
        path.realises = Some(path.path.name().to_owned());
    }
    graph
}

impl TestCache {
    /// The keys of realisations, both layouts.
    async fn realisations(&self) -> Vec<String> {
        self.bucket.keys_ending(".doi").await
    }

    async fn realisation(&self, key: &str) -> Realisation {
        let parsed: ObjectKey = key.parse().unwrap();
        let id = OutputId::of_key(&parsed).unwrap();
        Realisation::parse(&id, &self.bucket.text(key).await).unwrap()
    }

    /// A push has nothing to do for attachments.
    async fn assert_attached(&self, graph: &Graph) {
        let push = HandPush::plan(&self.server.url(), graph, &[1]).await.unwrap();
        assert_eq!(self.count("SELECT count(*) FROM upload_attachments").await, 0);
        push.abandon().await.unwrap();
    }

    /// Which paths all realisations are.
    async fn realised(&self) -> Vec<String> {
        let mut realised = Vec::new();
        for key in self.realisations().await {
            realised.push(self.realisation(&key).await.path.to_string());
        }
        realised.sort();
        realised
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_are_published_signed_after_the_paths_that_they_are_of() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    // A try that fails is made again.
    proxy.set(first_try(
        |seen| seen.puts(".doi") || seen.puts(".debug"),
        Fault::answer(500, "InternalError"),
    ));
    let graph = graph();
    cache.push_by_hand(&graph, 1).await;
    let puts = proxy.log();
    let place = |end: &str, nth: usize| {
        let done = puts.iter().enumerate().filter(|(_, put)| put.seen.puts(end));
        done.filter(|(_, put)| put.s3 == Some(200)).map(|(n, _)| n).nth(nth)
    };
    // Two narinfos, four realisations, two debug files.
    let last_narinfo = place(".narinfo", 1).unwrap();
    assert!(place(".doi", 3).is_some() && place(".debug", 1).is_some());
    assert!(last_narinfo < place(".doi", 0).unwrap() && last_narinfo < place(".debug", 0).unwrap());

    let key: SigningKey = SIGNING_KEY.parse().unwrap();
    let keys = cache.realisations().await;
    assert_eq!(keys.iter().filter(|key| key.starts_with("realisations/sha256:")).count(), 2);
    assert_eq!(keys.iter().filter(|key| key.starts_with("build-trace-v2/")).count(), 2);
    for name in &keys {
        let found = cache.realisation(name).await;
        assert!(found.signatures.contains(&key.sign(&found.fingerprint())), "{name}");
        let (_, encoding, kind) = cache.bucket.raw(name).await.unwrap();
        assert_eq!(encoding.as_deref(), Some("zstd"));
        assert_eq!(kind.as_deref(), Some("application/json"));
    }
    for name in cache.bucket.keys_ending(".debug").await {
        let (body, encoding, _) = cache.bucket.raw(&name).await.unwrap();
        assert_eq!(encoding, None, "Nix writes none");
        let nar = debug_info::archive(std::str::from_utf8(&body).unwrap()).unwrap();
        assert!(cache.bucket.raw(&nar.to_string()).await.is_some());
    }
    cache.assert_attached(&graph).await;
    cache.assert_consistent().await;
    cache.assert_fsck(&["--s3"], "attached").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_push_brings_is_attached_then() {
    let cache = TestCache::start_with(short_lived()).await;
    let mut bare = graph();
    bare.0.iter_mut().for_each(|path| path.realises = None);
    cache.push_by_hand(&bare, 1).await;
    assert_eq!(cache.realisations().await.len(), 0);
    let push = HandPush::plan(&cache.server.url(), &graph(), &[1]).await.unwrap();
    assert!(push.missing.is_empty());
    push.commit().await.unwrap();
    assert_eq!(cache.realisations().await.len(), 4);
    assert_eq!(cache.bucket.keys_ending(".debug").await.len(), 2);
    cache.assert_fsck(&["--s3"], "attached later").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realisation_is_deleted_before_the_path_that_it_is_of() {
    let (cache, proxy) = short_lived_behind_proxy().await;
    let graph = graph();
    cache.push_by_hand(&graph, 1).await;
    cache.quiet().await;
    // One of app's cannot be deleted: then app stays, and with it lib.
    let mut stays = None;
    for key in cache.realisations().await {
        let is_app = cache.realisation(&key).await.path == graph.0[1].path;
        if is_app && key.starts_with("build-trace-v2/") {
            stays = Some(key);
        }
    }
    let stays = stays.unwrap();
    proxy.set(each(deletes(&stays), Fault::answer(500, "InternalError")));
    let progress = cache.collected(&everything()).await;
    assert_eq!(progress["objects-failed-to-delete"], 1, "{progress}");
    assert_eq!(cache.realisations().await, [stays]);
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 2);
    cache.assert_consistent().await;
    // A push takes all of it back.
    proxy.heal();
    cache.push_by_hand(&graph, 1).await;
    assert_eq!(cache.realisations().await.len(), 4);
    cache.assert_fsck(&["--s3"], "taken back").await;
    cache.quiet().await;
    sleep(ALL_URLS_EXPIRED).await;
    cache.collected(&everything()).await;
    cache.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realisation_stays_what_it_is_as_long_as_its_path_is_there() {
    let cache = TestCache::start_with(short_lived()).await;
    let mut graph = Graph::default();
    for name in ["one", "other"] {
        let index = graph.add(name, &format!("contents of {name}"), &[]);
        graph.0[index].realises = Some("same".to_owned());
    }
    let [one, other] = [0, 1].map(|index: usize| graph.0[index].path.to_string());
    cache.push_by_hand(&graph, 0).await;
    cache.push_by_hand(&graph, 1).await;
    assert_eq!(cache.realised().await, [one.clone(), one.clone()]);
    // It is not asked for again and again.
    cache.assert_attached(&graph).await;
    // Only the other is left.
    cache.forget(&[&one]).await.ok();
    assert_eq!(cache.realisations().await.len(), 0);
    cache.assert_consistent().await;
    cache.push_by_hand(&graph, 1).await;
    assert_eq!(cache.realised().await, [other.clone(), other]);
    cache.assert_fsck(&["--s3"], "one after the other").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_has_forgotten_attachments_takes_them_up_again() {
    let mut cache = TestCache::start_with(short_lived()).await;
    cache.push_by_hand(&graph(), 1).await;
    let before = cache.ours().await;
    // With nix-cache-info.
    assert_eq!(before.len(), 2 + 2 + 4 + 2 + 1);
    cache.use_database(create_database().await, short_lived()).await;
    let repaired = cache.repaired("forgotten").await;
    assert_eq!(repaired["adopted"], 2, "{repaired}");
    cache.assert_fsck(&["--s3"], "adopted").await;
    cache.assert_attached(&graph()).await;
    assert_eq!(cache.ours().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bucket_has_lost_of_them_comes_back_with_the_next_push() {
    let cache = TestCache::start_with(short_lived()).await;
    let graph = graph();
    cache.push_by_hand(&graph, 1).await;
    let lost = cache.realisations().await.remove(0);
    cache.bucket.delete(&lost).await;
    let path: Vec<_> = graph.0.iter().map(|path| path.path.hash()).collect();
    let body = serde_json::json!({ "paths": path }).to_string();
    let (status, answer) = cache.post("verify", body).await;
    assert_eq!((status, &answer["lost"][0]), (200, &lost.clone().into()), "{answer}");
    cache.push_by_hand(&graph, 1).await;
    assert!(cache.realisations().await.contains(&lost));
    cache.assert_fsck(&["--s3"], "sent again").await;
}
