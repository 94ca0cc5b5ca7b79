//! `niks3-server fsck` says nothing of a cache that is well, and names what is wrong with one that is not.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    gc::{ALL_URLS_EXPIRED, everything, short_lived},
    support::{Graph, HandPush, ServerOptions, TestCache, run},
};

/// How long pushes go on while fsck looks.
const BUSY: Duration = Duration::from_secs(8);

/// `lib`, `app` that needs it, and `other`; all of them pushed.
async fn cache(options: ServerOptions) -> (TestCache, Graph) {
    let cache = TestCache::start_with(options).await;
    let mut graph = Graph::chain(&["lib", "app"]);
    graph.add("other", "contents of other", &[]);
    HandPush::push(&cache.server.url(), &graph, &[1, 2]).await.unwrap();
    (cache, graph)
}

impl TestCache {
    /// What fsck finds: kinds and keys, each once.
    async fn found(&self, args: &[&str]) -> Vec<(String, String)> {
        let run = self.fsck(&[args, &["--json"]].concat()).await;
        let report: Value = serde_json::from_str(&run.stdout).expect(&run.stderr);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let findings = report["findings"].as_array().unwrap().iter();
        let mut found: Vec<_> =
            findings.map(|finding| (text(&finding["kind"]), text(&finding["key"]))).collect();
        assert_eq!(run.code, Some(i32::from(!found.is_empty())), "{report}");
        assert_eq!(report["more"], false);
        found.sort();
        found.dedup();
        found
    }

    async fn damage(&self, sql: &str) {
        self.sql().await.batch_execute(sql).await.unwrap();
    }

    /// The key of the NAR of a narinfo.
    async fn nar_of(&self, narinfo: &str) -> String {
        let sql = "SELECT a.key FROM objects o JOIN narinfos n ON n.object_id = o.id \
                   JOIN objects a ON a.id = n.nar_id WHERE o.key = $1";
        self.sql().await.query_one(sql, &[&narinfo]).await.unwrap().get(0)
    }
}

fn named(kind: &str, key: &str) -> (String, String) {
    (kind.to_owned(), key.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_well_has_nothing_wrong() {
    let empty = TestCache::start().await;
    empty.assert_fsck(&["--s3"], "empty").await;

    let (cache, graph) = cache(short_lived()).await;
    cache.assert_fsck(&[], "after a push").await;
    cache.assert_fsck(&["--s3"], "after a push").await;
    // One that was planned, and one that was given up.
    let mut more = graph.clone();
    let new = more.add("new", "contents of new", &[0]);
    let push = HandPush::plan(&cache.server.url(), &more, &[new]).await.unwrap();
    cache.assert_fsck(&["--s3"], "planned").await;
    push.send().await.unwrap();
    cache.assert_fsck(&["--s3"], "sent").await;
    push.abandon().await.unwrap();
    cache.assert_fsck(&["--s3"], "given up").await;
    // Garbage that stays for a while, and then none.
    cache.collected(&everything()).await;
    cache.assert_fsck(&["--s3"], "condemned").await;
    tokio::time::sleep(ALL_URLS_EXPIRED).await;
    cache.collected(&everything()).await;
    cache.assert_fsck(&["--s3"], "collected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_the_tables_is_named() {
    let app = "(SELECT id FROM objects WHERE key = 'APP')";
    for (kind, sql) in [
        ("needed_but_condemned", "UPDATE objects SET condemned_at = now() WHERE id = ID"),
        ("needed_but_condemned", "UPDATE objects SET claimed_at = now() WHERE id = ID"),
        ("forgotten", "DELETE FROM closures WHERE object_id = ID"),
        ("dangling_reference", "INSERT INTO refs VALUES (ID, 1000000)"),
        ("not_composed", "DELETE FROM narinfos WHERE object_id = ID"),
        ("nar_missing", "UPDATE narinfos SET nar_id = 1000000 WHERE object_id = ID"),
        (
            "nar_missing",
            "UPDATE objects SET stored_at = NULL \
             WHERE id = (SELECT nar_id FROM narinfos WHERE object_id = ID)",
        ),
        (
            "nar_missing",
            "DELETE FROM refs WHERE src = ID AND dst = (SELECT nar_id FROM narinfos WHERE object_id = ID)",
        ),
        (
            "reference_not_published",
            "UPDATE objects SET stored_at = NULL WHERE key <> 'APP' AND kind = 1 \
             AND id IN (SELECT dst FROM refs WHERE src = ID)",
        ),
    ] {
        let (cache, graph) = cache(ServerOptions::default()).await;
        let key = graph.narinfo(1);
        cache.damage(&sql.replace("ID", app).replace("APP", &key)).await;
        let found = cache.found(&[]).await;
        assert!(found.contains(&named(kind, &key)), "{kind}: {found:?}");
        let people = cache.fsck(&[]).await;
        assert_eq!(people.code, Some(1));
        assert!(people.stdout.contains(&key) && people.stdout.contains("wrong"), "{people:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_an_object_that_is_not_there_is_named() {
    let (cache, graph) = cache(ServerOptions::default()).await;
    let key = graph.narinfo(2);
    let kinds = |found: Vec<(String, String)>| -> Vec<String> {
        let mut kinds: Vec<String> = found.into_iter().map(|(kind, _)| kind).collect();
        kinds.dedup();
        kinds
    };
    for sql in [
        "INSERT INTO closures VALUES (1000000, now())",
        "INSERT INTO candidates VALUES (1000000)",
        "INSERT INTO pins (name, filed, created_at, moved_at) VALUES ('x', 1000000, now(), now())",
    ] {
        cache.damage(sql).await;
        assert_eq!(kinds(cache.found(&[]).await), ["dangling_holder"], "{sql}");
        cache.damage("DELETE FROM pins; DELETE FROM candidates").await;
        cache.damage("DELETE FROM closures WHERE object_id = 1000000").await;
        cache.assert_fsck(&[], sql).await;
    }
    let hold = format!("INSERT INTO holds SELECT 1000000, id FROM objects WHERE key = '{key}'");
    cache.damage(&hold).await;
    assert_eq!(cache.found(&[]).await, [named("dangling_holder", &key)]);
    cache.damage("DELETE FROM holds").await;
    cache.assert_fsck(&["--s3"], "repaired by hand").await;

    cache.damage(&format!("DELETE FROM objects WHERE key = '{key}'")).await;
    let found = cache.found(&["--s3"]).await;
    for kind in ["dangling_narinfo", "object_without_row"] {
        assert!(found.contains(&named(kind, &key)), "{kind}: {found:?}");
    }
    // Of a reference whose beginning is gone, the end is named.
    let all = ["dangling_holder", "dangling_narinfo", "dangling_reference", "object_without_row"];
    assert_eq!(kinds(found), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_between_database_and_bucket_is_named() {
    let (cache, graph) = cache(short_lived()).await;
    let (lib, app, other) = (graph.narinfo(0), graph.narinfo(1), graph.narinfo(2));
    let (lib_nar, app_nar) = (cache.nar_of(&lib).await, cache.nar_of(&app).await);
    // Neither the first nor the last key is ours.
    for foreign in ["!first", "index.htm", "nar/strange", "~last"] {
        cache.bucket.put(foreign, "not ours").await;
    }
    cache.bucket.put("index.html", "for people").await;
    let report: Value =
        serde_json::from_str(&cache.fsck(&["--s3", "--json"]).await.ok().stdout).unwrap();
    assert_eq!(report["foreign"], 4, "{report}");
    assert_eq!(report["objects"], 6, "{report}");

    let stray = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz.narinfo";
    cache.bucket.put(stray, "nobody's").await;
    cache.bucket.delete(&app).await;
    cache.bucket.delete(&lib_nar).await;
    cache.bucket.put(&app_nar, "of another size").await;
    cache.bucket.put("pins/nobody", "nothing").await;
    let expected = [
        named("object_without_row", stray),
        named("other_size", &app_nar),
        named("pin_file_without_row", "pins/nobody"),
        named("stored_not_there", &app),
        named("stored_not_there", &lib_nar),
    ];
    let mut found = cache.found(&["--s3"]).await;
    found.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(found, expected);
    cache.assert_fsck(&[], "the tables are well").await;

    // What was void when it was written, once nobody can write it.
    let void = format!(
        "DELETE FROM narinfos WHERE object_id = (SELECT id FROM objects WHERE key = '{other}'); \
         UPDATE objects SET stored_at = NULL, writable_until = now() + interval '1 hour' \
         WHERE key = '{other}'"
    );
    cache.damage(&void).await;
    assert_eq!(cache.found(&["--s3"]).await, expected);
    cache.damage(&format!("UPDATE objects SET writable_until = NULL WHERE key = '{other}'")).await;
    let found = cache.found(&["--s3"]).await;
    assert!(found.contains(&named("not_stored_but_there", &other)), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_files_of_pins_should_say_is_known() {
    let (cache, graph) = cache(ServerOptions::default()).await;
    for name in ["gone", "good", "other"] {
        let body = serde_json::json!({"path": graph.0[1].path.to_string()}).to_string();
        let (status, body) = cache.call("PUT", &format!("pins/{name}"), body).await;
        assert_eq!(status, 200, "{body}");
    }
    cache.assert_fsck(&["--s3"], "pinned").await;
    cache.bucket.delete("pins/gone").await;
    cache.bucket.put("pins/other", "/nix/store/something-else").await;
    let expected = [named("pin_file_missing", "pins/gone"), named("pin_file_other", "pins/other")];
    assert_eq!(cache.found(&["--s3"]).await, expected);
    // One that is on its way says what it says.
    cache.damage("UPDATE pins SET writing_until = now() + interval '1 hour'").await;
    cache.assert_fsck(&["--s3"], "on its way").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_and_collections_under_way_are_nothing_wrong() {
    let cache = TestCache::start_with(short_lived()).await;
    let url = cache.server.url();
    let until = Instant::now() + BUSY;
    let pushers = (0..3).map(|pusher| {
        let url = url.clone();
        tokio::spawn(async move {
            for n in 0_u32.. {
                if Instant::now() > until {
                    break;
                }
                let names: Vec<String> =
                    (0..4).map(|k| format!("p{pusher}-{}-{k}", n % 7)).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let graph = Graph::chain(&names);
                // Refused at worst: what it needs is being deleted.
                HandPush::push(&url, &graph, &[3]).await.ok();
            }
        })
    });
    let pushers: Vec<_> = pushers.collect();
    while Instant::now() < until {
        cache.collect(&everything()).await;
        cache.assert_fsck(&["--s3"], "under way").await;
    }
    for pusher in pushers {
        pusher.await.unwrap();
    }
    cache.assert_fsck(&["--s3"], "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_is_an_error_of_usage() {
    let cache = TestCache::start().await;
    cache.fsck(&["--fast"]).await.failed(2, &["--fast"]);
    cache.fsck(&["everything"]).await.failed(2, &["everything"]);
    let nothing = run(crate::support::program().arg("fsck")).await;
    nothing.failed(2, &["--db", "NIKS3_DB"]);
}
