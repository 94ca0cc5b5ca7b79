//! `niks3-server fsck --repair` mends what fsck finds, and loses nothing that a closure needs. And
//! `niks3-server forget`.

use serde_json::{Value, json};

use crate::{
    gc::{everything, short_lived},
    pins::{filed, pin},
    support::{
        Fault, Graph, HandPush, Run, Server, ServerOptions, TestCache, connect, create_database,
        each, program, run, shared_store,
    },
};

/// Every request is answered: nobody can write anything any more.
const ANSWERED: &str = "UPDATE objects SET writable_until = NULL";

const NARINFO_TEXT: &str = "StorePath: /nix/store/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-foreign\n\
    URL: nar/x.nar.xz\nCompression: xz\n\
    FileHash: sha256:0000000000000000000000000000000000000000000000000000\nFileSize: 1\n\
    NarHash: sha256:0000000000000000000000000000000000000000000000000000\nNarSize: 1\nReferences: \n";

/// What only new things expire of: nothing.
fn nothing_old() -> Value {
    json!({"older_than": 3600, "failed_uploads_older_than": 0, "force": true})
}

impl TestCache {
    async fn change(&self, sql: &str) {
        self.sql().await.batch_execute(sql).await.unwrap();
    }

    async fn pushed(&self, graph: &Graph, roots: &[usize]) {
        HandPush::push(&self.server.url(), graph, roots).await.unwrap();
        self.change(ANSWERED).await;
    }

    /// Repairs; answers the report.
    async fn repair(&self) -> Value {
        let run = self.fsck(&["--s3", "--repair", "--json"]).await.ok();
        serde_json::from_str(&run.stdout).unwrap()
    }

    /// Repairs so that all is well.
    pub async fn repaired(&self, what: &str) -> Value {
        let report = self.repair().await;
        self.assert_fsck(&["--s3"], what).await;
        assert_eq!(report["repaired"]["trusted"], true, "{what}: {report}");
        report["repaired"].clone()
    }

    /// Everything of the cache's own in the bucket, but for generations.
    pub async fn ours(&self) -> Vec<String> {
        let keys = self.bucket.keys().await.into_iter();
        keys.filter(|key| !key.starts_with("generation/")).collect()
    }

    /// A copy of the database as it is now.
    async fn copy_database(&mut self) -> String {
        self.server.terminate().await;
        let copy = format!("{}_copy", self.database);
        let admin = connect("postgres").await;
        let end = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{}'",
            self.database
        );
        admin.batch_execute(&end).await.unwrap();
        let create = format!("CREATE DATABASE {copy} TEMPLATE {}", self.database);
        admin.batch_execute(&create).await.unwrap();
        self.server.restart().await;
        copy
    }

    /// A server on another database, before the same bucket.
    pub async fn use_database(&mut self, database: String, options: ServerOptions) {
        self.server.terminate().await;
        self.server = Server::start(self.dir.path(), &database, self.bucket.name(), options).await;
        self.database = database;
    }

    /// No collection runs, and whoever asked for one reads what to do.
    async fn assert_distrusted(&self) {
        let before = self.bucket.keys().await;
        let run = self.collect(&everything()).await;
        assert_eq!(run["state"], "failed", "{run}");
        assert!(
            run["error"].as_str().unwrap().contains("niks3-server fsck --s3 --repair"),
            "{run}"
        );
        assert_eq!(self.bucket.keys().await, before);
    }

    pub async fn forget(&self, args: &[&str]) -> Run {
        run(program().arg("forget").args(self.server.fsck_arguments()).args(args)).await
    }

    /// Removes all rows of a narinfo and of its NAR.
    async fn lose_rows(&self, narinfo: &str) {
        let sql = format!(
            "CREATE TEMPORARY TABLE lost AS SELECT o.id FROM objects o WHERE o.key = '{narinfo}' \
             UNION SELECT n.nar_id FROM narinfos n JOIN objects o ON o.id = n.object_id \
             WHERE o.key = '{narinfo}'; \
             DELETE FROM refs WHERE src IN (SELECT id FROM lost); \
             DELETE FROM narinfos WHERE object_id IN (SELECT id FROM lost); \
             DELETE FROM closures WHERE object_id IN (SELECT id FROM lost); \
             DELETE FROM holds WHERE object_id IN (SELECT id FROM lost); \
             DELETE FROM upload_paths WHERE object_id IN (SELECT id FROM lost); \
             DELETE FROM candidates WHERE object_id IN (SELECT id FROM lost); \
             DELETE FROM objects WHERE id IN (SELECT id FROM lost)"
        );
        self.change(&sql).await;
    }

    async fn nar_key(&self, narinfo: &str) -> String {
        self.bucket.narinfo(narinfo).await["URL"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_restored_is_repaired_from_the_bucket() {
    let (store, roots) = shared_store().await;
    let mut cache = TestCache::start_with(short_lived()).await;
    let program = roots.iter().find(|root| root.contains("-program")).unwrap();
    cache.push(store, std::slice::from_ref(program)).await.ok();
    cache.collected(&nothing_old()).await;
    cache.change(ANSWERED).await;
    let copy = cache.copy_database().await;

    // All that the copy knows goes and comes again, with other NARs; more comes; and a collection.
    let known = cache.bucket.keys_ending(".nar.zst").await;
    cache.collected(&everything()).await;
    assert!(cache.bucket.keys_ending(".narinfo").await.is_empty());
    cache.push(store, roots).await.ok();
    cache.collected(&nothing_old()).await;
    let narinfos = cache.bucket.keys_ending(".narinfo").await;
    let now = cache.bucket.keys_ending(".nar.zst").await;
    assert!(known.iter().all(|key| !now.contains(key)), "sent again is another object");

    cache.use_database(copy, short_lived()).await;
    cache.assert_distrusted().await;
    // What the copy takes for stored is looked for; the bucket stays whole at all times.
    cache.push(store, std::slice::from_ref(program)).await.ok();
    cache.bucket.assert_consistent().await;
    cache.assert_realisable().await;
    cache.assert_distrusted().await;

    cache.change(ANSWERED).await;
    let repaired = cache.repaired("restored").await;
    assert!(repaired["adopted"].as_u64().unwrap() > 0, "{repaired}");
    assert_eq!(repaired["removed"], 0, "{repaired}");
    assert_eq!(cache.bucket.keys_ending(".narinfo").await, narinfos);
    cache.collected(&nothing_old()).await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await, narinfos, "pushed as of now");
    let closures = cache.count("SELECT count(*) FROM closures").await;
    assert!(closures >= roots.len() as i64, "{closures}");
    cache.assert_fsck(&["--s3"], "collected").await;
    cache.assert_complete(store, roots).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_is_repaired_before_any_push_and_at_once_after_one() {
    for answered in [true, false] {
        let mut cache = TestCache::start_with(short_lived()).await;
        let mut graph = Graph::chain(&["lib", "app"]);
        cache.pushed(&graph, &[1]).await;
        let copy = cache.copy_database().await;
        cache.collected(&everything()).await;
        let new = graph.add("new", "contents of new", &[0]);
        cache.pushed(&graph, &[1, new]).await;
        let narinfos = cache.bucket.keys_ending(".narinfo").await;
        cache.use_database(copy, short_lived()).await;
        if !answered {
            let fenced = "UPDATE objects SET writable_until = now() + interval '1 hour'";
            cache.change(fenced).await;
        }
        if !answered {
            // Nothing is removed, and nothing trusted, that cannot be taken up yet.
            let early = cache.fsck(&["--s3", "--repair"]).await;
            assert_eq!(early.code, Some(1), "{early:?}");
            cache.bucket.assert_consistent().await;
            assert_eq!(cache.bucket.keys_ending(".narinfo").await, narinfos);
            cache.assert_distrusted().await;
            cache.change(ANSWERED).await;
        }
        cache.repaired("restored").await;
        cache.assert_consistent().await;
        assert_eq!(cache.bucket.keys_ending(".narinfo").await, narinfos);
        cache.collected(&nothing_old()).await;
        cache.assert_consistent().await;
        assert_eq!(cache.bucket.keys_ending(".narinfo").await, narinfos);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_in_place_is_known_by_the_generation() {
    let mut cache = TestCache::start_with(short_lived()).await;
    let mut graph = Graph::chain(&["lib", "app"]);
    cache.pushed(&graph, &[1]).await;
    let copy = cache.copy_database().await;
    let new = graph.add("new", "contents of new", &[0]);
    cache.pushed(&graph, &[new]).await;
    cache.collected(&nothing_old()).await;
    cache.use_database(copy, short_lived()).await;
    let same = "UPDATE identity SET database = \
                (SELECT oid FROM pg_database WHERE datname = current_database())";
    cache.change(same).await;
    let run = cache.collect(&everything()).await;
    assert!(run["error"].as_str().unwrap().contains("older than the bucket"), "{run}");
    cache.assert_distrusted().await;
    let repaired = cache.repaired("restored").await;
    assert_eq!(repaired["adopted"], 1, "{repaired}");
    cache.collected(&nothing_old()).await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 3);
    cache.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_before_a_full_bucket_takes_up_all_of_it() {
    let (store, roots) = shared_store().await;
    let program = roots.iter().find(|root| root.contains("-program")).unwrap();
    for collected in [true, false] {
        let mut cache = TestCache::start_with(short_lived()).await;
        cache.push(store, roots).await.ok();
        assert_eq!(pin(&cache, "main", program).await.0, 200);
        if collected {
            cache.collected(&nothing_old()).await;
        }
        let before = cache.ours().await;
        cache.use_database(create_database().await, short_lived()).await;
        cache.assert_distrusted().await;
        // A push does not make it trusted.
        let graph = Graph::chain(&["made"]);
        cache.pushed(&graph, &[0]).await;
        cache.assert_distrusted().await;
        cache.server.terminate().await;
        cache.server.restart().await;
        cache.assert_distrusted().await;

        let repaired = cache.repaired("empty").await;
        let narinfos = before.iter().filter(|key| key.ends_with(".narinfo")).count();
        assert_eq!(repaired["adopted"], narinfos, "{repaired}");
        let there = cache.bucket.keys().await;
        let lost: Vec<_> = before.iter().filter(|key| !there.contains(*key)).collect();
        assert!(lost.is_empty(), "{lost:?}");
        assert_eq!(cache.count("SELECT count(*) FROM pins WHERE name = 'main'").await, 1);
        cache.collected(&nothing_old()).await;
        // The contents of the other are made up.
        assert_eq!(
            cache.forget(&[&graph.0[0].path.to_string()]).await.ok().stdout,
            "forgot 1 paths\n"
        );
        cache.assert_complete(store, roots).await;
        let there = cache.bucket.keys().await;
        assert!(before.iter().all(|key| there.contains(key)), "nothing was sent twice");
        // The pin holds.
        cache.change(ANSWERED).await;
        cache.collected(&everything()).await;
        let closure = store.closure(std::slice::from_ref(program)).await;
        assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), closure.len());
        assert_eq!(filed(&cache, "main").await.as_ref(), Some(program));
        cache.assert_consistent().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn narinfos_that_the_bucket_has_lost_are_sent_again() {
    let cache = TestCache::start_with(short_lived()).await;
    let graph = Graph::chain(&["lib", "mid", "app"]);
    cache.pushed(&graph, &[2]).await;
    let keys = [0, 1, 2].map(|index| graph.narinfo(index));
    let mut before = Vec::new();
    for key in &keys {
        before.push(cache.bucket.raw(key).await.unwrap());
        cache.bucket.delete(key).await;
    }
    let repaired = cache.repaired("narinfos").await;
    assert_eq!((&repaired["sent_again"], &repaired["lost"]), (&json!(3), &json!(3)), "{repaired}");
    for (key, before) in keys.iter().zip(before) {
        assert_eq!(cache.bucket.raw(key).await.unwrap(), before);
    }
    cache.assert_consistent().await;
    // One in the middle.
    cache.change(ANSWERED).await;
    cache.bucket.delete(&keys[1]).await;
    let repaired = cache.repaired("one narinfo").await;
    assert_eq!((&repaired["sent_again"], &repaired["removed"]), (&json!(1), &json!(0)));
    cache.assert_consistent().await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_nar_that_is_lost_goes_and_the_next_push_sends_that_nar_alone() {
    // Which path's NAR is lost, how many narinfos go.
    for (lost, gone) in [(0, 3), (1, 2), (2, 1)] {
        let cache = TestCache::start_with(short_lived()).await;
        let mut graph = Graph::chain(&["lib", "mid", "app"]);
        let other = graph.add("other", "contents of other", &[]);
        cache.pushed(&graph, &[2, other]).await;
        let before = cache.ours().await;
        let nar = cache.nar_key(&graph.narinfo(lost)).await;
        cache.bucket.delete(&nar).await;
        let repaired = cache.repaired("a NAR").await;
        cache.assert_consistent().await;
        assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 4 - gone, "{repaired}");
        assert_eq!(cache.bucket.keys_ending(".nar.zst").await.len(), 3, "no other NAR is lost");
        // Neither does a collection take them.
        cache.change(ANSWERED).await;
        cache.collected(&nothing_old()).await;
        assert_eq!(cache.bucket.keys_ending(".nar.zst").await.len(), 3, "no other NAR is lost");
        let push = HandPush::plan(&cache.server.url(), &graph, &[2, other]).await.unwrap();
        assert_eq!(push.missing, [lost as u32]);
        push.send().await.unwrap();
        push.commit().await.unwrap();
        cache.assert_consistent().await;
        assert_eq!(cache.ours().await.len(), before.len());
        cache.assert_fsck(&["--s3"], "pushed again").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_listing_and_a_lost_nar_come_back_with_the_next_push_and_real_nix_reads_all() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start_with(short_lived()).await;
    cache.push(store, roots).await.ok();
    cache.change(ANSWERED).await;
    let listings = cache.bucket.keys_ending(".ls").await;
    let narinfos = cache.bucket.keys_ending(".narinfo").await;
    cache.bucket.delete(&listings[0]).await;
    let repaired = cache.repaired("a listing").await;
    assert_eq!((&repaired["lost"], &repaired["removed"]), (&json!(1), &json!(0)), "{repaired}");
    assert_eq!(cache.bucket.keys_ending(".narinfo").await, narinfos);
    cache.assert_complete(store, roots).await;
    assert_eq!(cache.bucket.keys_ending(".ls").await, listings);

    cache.change(ANSWERED).await;
    cache.bucket.delete(&cache.nar_key(&narinfos[0]).await).await;
    cache.repaired("a NAR").await;
    cache.assert_consistent().await;
    cache.assert_realisable().await;
    cache.assert_complete(store, roots).await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await, narinfos);
    assert_eq!(cache.bucket.keys_ending(".ls").await, listings);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_becomes_garbage_and_what_is_foreign_stays() {
    let cache = TestCache::start_with(short_lived()).await;
    let mut graph = Graph::chain(&["lib", "app"]);
    let orphan = graph.add("orphan", "contents of orphan", &[]);
    let broken = graph.add("broken", "contents of broken", &[0]);
    cache.pushed(&graph, &[1, orphan, broken]).await;
    let orphan_nar = cache.nar_key(&graph.narinfo(orphan)).await;
    let listing = "00000000000000000000000000000000.ls";
    cache.bucket.put(listing, "{}").await;
    let foreign = ["zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz.narinfo", "nar/x.nar.xz", "log/x.drv"];
    for key in foreign {
        cache.bucket.put(key, NARINFO_TEXT).await;
    }
    cache.lose_rows(&graph.narinfo(orphan)).await;
    cache.bucket.delete(&graph.narinfo(orphan)).await;
    let broken_nar = cache.nar_key(&graph.narinfo(broken)).await;
    cache.lose_rows(&graph.narinfo(broken)).await;
    cache.bucket.delete(&broken_nar).await;

    let repaired = cache.repaired("strays").await;
    assert_eq!((&repaired["removed"], &repaired["adopted"]), (&json!(1), &json!(0)), "{repaired}");
    cache.collected(&nothing_old()).await;
    let keys = cache.bucket.keys().await;
    assert!(!keys.contains(&graph.narinfo(broken)), "{keys:?}");
    for key in [&orphan_nar, listing].into_iter().chain(foreign) {
        assert!(keys.contains(key), "{key} is not there");
    }
    let late = "SELECT count(*) FROM objects WHERE writable_until > now() + interval '12 hours 59 minutes'";
    assert_eq!(cache.count(late).await, 2);
    cache.change(ANSWERED).await;
    cache.collected(&nothing_old()).await;
    let keys = cache.bucket.keys().await;
    assert!(!keys.contains(&orphan_nar) && !keys.contains(listing), "{keys:?}");
    assert!(foreign.iter().all(|key| keys.contains(*key)));
    assert_eq!(cache.count("SELECT count(*) FROM objects").await, 4, "no row is left of them");
    cache.assert_fsck(&["--s3"], "collected").await;
    for key in &foreign[..1] {
        cache.bucket.delete(key).await;
    }
    cache.assert_consistent().await;
    // They can be pushed.
    cache.pushed(&graph, &[1, orphan, broken]).await;
    cache.assert_consistent().await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_the_tables_is_repaired_and_nothing_that_is_needed_is_lost() {
    let id = "(SELECT id FROM objects WHERE key = 'KEY')";
    let nar = "(SELECT nar_id FROM narinfos WHERE object_id = ID)";
    for (of, sql) in [
        (0, "UPDATE objects SET condemned_at = now() - interval '1 day' WHERE id = ID"),
        (0, "UPDATE objects SET condemned_at = now() - interval '1 day' WHERE id = NAR"),
        (0, "UPDATE objects SET condemned_at = now() - interval '1 day'"),
        (0, "INSERT INTO refs VALUES (ID, 1000000)"),
        (1, "INSERT INTO refs VALUES (ID, 1000000)"),
        (0, "INSERT INTO refs VALUES (1000000, ID)"),
        (0, "INSERT INTO closures VALUES (1000000, now())"),
        (0, "INSERT INTO candidates VALUES (1000000)"),
        (0, "INSERT INTO holds VALUES (1000000, ID)"),
        (0, "INSERT INTO holds VALUES (1000000, 1000000)"),
        (
            0,
            "INSERT INTO narinfos SELECT 1000000, store_path, nar_hash, nar_id, narinfo FROM narinfos \
             WHERE object_id = ID",
        ),
        (0, "DELETE FROM narinfos WHERE object_id = ID"),
        (1, "DELETE FROM narinfos WHERE object_id = ID"),
        (0, "UPDATE narinfos SET nar_id = 1000000 WHERE object_id = ID"),
        (0, "DELETE FROM refs WHERE src = ID AND dst = NAR"),
        (1, "UPDATE objects SET stored_at = NULL WHERE id = NAR"),
        (0, "UPDATE objects SET stored_at = NULL WHERE id = ID"),
        (0, "DELETE FROM objects WHERE id = ID"),
        (1, "DELETE FROM objects WHERE id = ID"),
        (0, "DELETE FROM objects WHERE id = NAR"),
        (0, "TRUNCATE objects, refs, narinfos, closures, holds, candidates"),
        (0, "TRUNCATE refs"),
        (0, "TRUNCATE narinfos"),
    ] {
        let cache = TestCache::start_with(short_lived()).await;
        let mut graph = Graph::chain(&["lib", "app"]);
        let other = graph.add("other", "contents of other", &[0]);
        cache.pushed(&graph, &[1, other]).await;
        let before = cache.ours().await;
        let damage = sql.replace("NAR", nar).replace("ID", id).replace("KEY", &graph.narinfo(of));
        cache.change(&damage).await;
        let damaged = cache.fsck(&["--s3"]).await;
        assert_eq!(damaged.code, Some(1), "{sql}: {damaged:?}");
        let repaired = cache.repaired(sql).await;
        assert_eq!(cache.ours().await, before, "{sql}: {repaired}");
        let again = cache.repair().await;
        for done in ["adopted", "sent_again", "removed", "lost"] {
            assert_eq!(again["repaired"][done], 0, "{sql}: {again}");
        }
        cache.change(ANSWERED).await;
        cache.collected(&nothing_old()).await;
        assert_eq!(cache.ours().await, before, "{sql}: nothing of it is garbage");
        cache.assert_consistent().await;
        cache.assert_fsck(&["--s3"], sql).await;
        // A push finds all of it, and leaves nothing to repair.
        let push = HandPush::plan(&cache.server.url(), &graph, &[1, other]).await.unwrap();
        assert!(push.missing.is_empty(), "{sql}: {:?}", push.missing);
        push.commit().await.unwrap();
        cache.assert_consistent().await;
        cache.change(ANSWERED).await;
        // And it all goes in the end.
        cache.collected(&everything()).await;
        assert_eq!(cache.ours().await, ["nix-cache-info"], "{sql}");
        assert_eq!(cache.count("SELECT count(*) FROM objects").await, 0, "{sql}");
        assert_eq!(cache.count("SELECT count(*) FROM refs").await, 0, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_nothing_holds_is_collected_after_a_repair() {
    let cache = TestCache::start_with(short_lived()).await;
    let mut graph = Graph::chain(&["lib", "app"]);
    let other = graph.add("other", "contents of other", &[0]);
    cache.pushed(&graph, &[1, other]).await;
    let forget = format!(
        "DELETE FROM closures WHERE object_id = (SELECT id FROM objects WHERE key = '{}')",
        graph.narinfo(other)
    );
    cache.change(&forget).await;
    cache.repaired("forgotten").await;
    cache.collected(&nothing_old()).await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 2);
    cache.assert_consistent().await;
    cache.assert_fsck(&["--s3"], "collected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_to_nothing_go_and_files_of_pins_are_right_again() {
    let cache = TestCache::start_with(short_lived()).await;
    let graph = Graph::chain(&["lib", "app"]);
    cache.pushed(&graph, &[1]).await;
    let path = format!("/nix/store/{}", graph.0[1].path);
    for name in ["gone", "kept", "other"] {
        assert_eq!(pin(&cache, name, &path).await.0, 200);
    }
    cache.change("UPDATE pins SET object_id = 1000000, filed = 1000000 WHERE name = 'gone'").await;
    cache.bucket.delete("pins/kept").await;
    cache.bucket.put("pins/other", "/nix/store/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-else\n").await;
    cache.bucket.put("pins/nobody", "/nix/store/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-else\n").await;
    let first = cache.fsck(&["--s3", "--repair"]).await;
    // The server writes them, soon.
    let fixed = async || {
        let pins = "SELECT count(*) FROM pins WHERE writing_until IS NOT NULL OR object_id IS NULL";
        cache.count(pins).await == 0
    };
    let started = std::time::Instant::now();
    while !fixed().await {
        assert!(started.elapsed().as_secs() < 60, "{first:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(filed(&cache, "kept").await.as_deref(), Some(path.as_str()));
    assert_eq!(filed(&cache, "other").await.as_deref(), Some(path.as_str()));
    assert_eq!(filed(&cache, "gone").await, None);
    cache.bucket.delete("pins/nobody").await;
    cache.assert_fsck(&["--s3"], "pins").await;
    cache.change(ANSWERED).await;
    cache.collected(&everything()).await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 2, "pinned");
}

#[tokio::test(flavor = "multi_thread")]
async fn forget_takes_only_what_nothing_needs() {
    let cache = TestCache::start_with(short_lived()).await;
    let graph = Graph::chain(&["lib", "app"]);
    cache.pushed(&graph, &[1]).await;
    let before = cache.ours().await;
    let (lib, app) = (graph.0[0].path.to_string(), graph.0[1].path.to_string());
    cache.forget(&[&lib]).await.failed(1, &["--with-referrers", &app]);
    assert_eq!(pin(&cache, "main", &format!("/nix/store/{app}")).await.0, 200);
    cache.forget(&[&app]).await.failed(1, &["main"]);
    cache.forget(&[&lib, "--with-referrers"]).await.failed(1, &["main"]);
    assert_eq!(crate::pins::unpin(&cache, "main").await.0, 204);
    // A push that is under way.
    let mut more = graph.clone();
    let new = more.add("new", "contents of new", &[1]);
    let push = HandPush::plan(&cache.server.url(), &more, &[new]).await.unwrap();
    cache.forget(&[&app]).await.failed(1, &["under way"]);
    cache.forget(&["zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"]).await.failed(1, &["none of these paths"]);
    cache.forget(&["strange"]).await.failed(2, &["strange"]);
    cache.forget(&[]).await.failed(2, &["no path"]);
    assert_eq!(cache.ours().await, before, "nothing went");
    assert_eq!(cache.count("SELECT count(*) FROM objects WHERE condemned_at IS NOT NULL").await, 0);
    push.abandon().await.unwrap();
    cache.assert_fsck(&["--s3"], "refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_goes_with_all_that_refers_to_it_and_can_be_pushed_anew() {
    let cache = TestCache::start_with(short_lived()).await;
    let mut graph = Graph::chain(&["lib", "mid", "app"]);
    let other = graph.add("other", "contents of other", &[]);
    // All that there is of its NAR is another path's too.
    let same = graph.add("same", "contents of lib", &[]);
    cache.pushed(&graph, &[2, other, same]).await;
    let lib = &graph.0[0].path;
    for (times, name) in [lib.hash().to_string(), lib.to_string(), format!("/nix/store/{lib}")]
        .into_iter()
        .enumerate()
    {
        let before = cache.bucket.keys_ending(".nar.zst").await;
        // Without short lifetimes that are over: it waits for them.
        if times < 2 {
            cache.change(ANSWERED).await;
        }
        let forgotten = cache.forget(&[&name, "--with-referrers"]).await.ok();
        assert_eq!(forgotten.stdout, "forgot 3 paths\n");
        cache.assert_consistent().await;
        assert_eq!(cache.bucket.keys_ending(".narinfo").await.len(), 2);
        assert_eq!(cache.bucket.keys_ending(".nar.zst").await.len(), 2, "{name}");
        assert_eq!(cache.count("SELECT count(*) FROM objects").await, 4);
        cache.assert_fsck(&["--s3"], "forgotten").await;
        let push = HandPush::plan(&cache.server.url(), &graph, &[2, other, same]).await.unwrap();
        assert_eq!(push.missing, [1, 2], "what another path has stays");
        push.send().await.unwrap();
        push.commit().await.unwrap();
        cache.assert_consistent().await;
        let after = cache.bucket.keys_ending(".nar.zst").await;
        assert_eq!(after.iter().filter(|key| before.contains(key)).count(), 2);
        cache.assert_fsck(&["--s3"], "pushed again").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_nix_realises_what_was_forgotten_and_pushed_again() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start_with(short_lived()).await;
    cache.push(store, roots).await.ok();
    cache.change(ANSWERED).await;
    let all = store.closure(roots).await;
    let leaf = all.iter().find(|path| path.contains("lib")).unwrap_or(&all[0]);
    cache.forget(&[leaf, "--with-referrers"]).await.ok();
    cache.assert_consistent().await;
    cache.assert_realisable().await;
    cache.assert_fsck(&["--s3"], "forgotten").await;
    cache.assert_complete(store, roots).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_repair_while_a_collection_is_under_way() {
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    let graph = Graph::chain(&["lib", "app"]);
    cache.pushed(&graph, &[1]).await;
    let deletes = |seen: &crate::support::Seen| {
        seen.method == "DELETE" || (seen.method == "POST" && seen.query.contains_key("delete"))
    };
    proxy.set(each(deletes, Fault::latency(3000)));
    let (status, _) = cache.post("gc", everything().to_string()).await;
    assert_eq!(status, 202);
    let app = graph.0[1].path.to_string();
    cache.fsck(&["--s3", "--repair"]).await.failed(1, &["under way"]);
    cache.forget(&[&app]).await.failed(1, &["under way"]);
    // It is only looked at.
    cache.assert_fsck(&["--s3"], "under way").await;
    proxy.heal();
    while cache.get("gc").await.1["collection"]["state"] == "running" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    cache.repaired("empty").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_repair_changes_nothing() {
    let cache = TestCache::start_with(short_lived()).await;
    let graph = Graph::chain(&["lib", "mid", "app"]);
    cache.pushed(&graph, &[2]).await;
    cache.bucket.delete(&cache.nar_key(&graph.narinfo(1)).await).await;
    cache.repaired("first").await;
    let tables = "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM \
                  (SELECT o::text FROM objects o UNION ALL SELECT c::text FROM closures c \
                   UNION ALL SELECT c::text FROM candidates c UNION ALL SELECT r::text FROM refs r \
                   UNION ALL SELECT n::text FROM narinfos n) t";
    let rows = async || cache.sql().await.query_one(tables, &[]).await.unwrap().get::<_, String>(0);
    let (before, keys) = (rows().await, cache.ours().await);
    let again = cache.repaired("second").await;
    for done in ["adopted", "sent_again", "removed", "lost"] {
        assert_eq!(again[done], 0, "{again}");
    }
    assert_eq!((rows().await, cache.ours().await), (before, keys));
}
