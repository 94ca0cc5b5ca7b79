//! How PostgreSQL carries out the queries of garbage collection, on tables so large that a wrong way
//! would show, with statistics that are right and with ones that are not.

use serde_json::Value;
use tempfile::TempDir;

use super::{Connection, DatabaseUrl};
use crate::dev::postgres::{Postgres, PostgresOptions};

const CACHE: &str = include_str!("../../benches/gc/cache.sql");

/// 153,000 objects with 357,000 references; and of all else enough that reading it whole would show.
const FILL: &str = "
    SELECT bench.add_core();
    SELECT bench.add_blocks(0, 100, now(), NULL);
    INSERT INTO closures SELECT id, now() - interval '1 day' FROM objects
      WHERE kind = 1 AND id % 4 = 1 AND id > 1000 ON CONFLICT DO NOTHING;
    UPDATE closures SET pushed_at = now() - interval '1 year' WHERE object_id BETWEEN 100000 AND 140000;
    INSERT INTO uploads (id, caller, state, created_at, expires_at, paths, roots, called_at)
      SELECT n, 'x', n % 3, now(), now() - interval '1 day', 0, '{}', now() - interval '2 days'
      FROM generate_series(1, 20000) AS n;
    INSERT INTO holds SELECT 1 + id % 40, id FROM objects WHERE id % 3 = 0;
    INSERT INTO upload_paths SELECT 1 + object_id % 40, object_id, store_path, nar_hash, 1, NULL, NULL, '', '{}', '', 0
      FROM narinfos WHERE object_id % 2 = 0;
    INSERT INTO multiparts SELECT id, key, 1 FROM objects WHERE kind = 2 AND id % 10 = 7;
    INSERT INTO pins (name, object_id, filed, created_at, moved_at)
      SELECT 'pin-' || object_id, object_id, object_id, now(), now()
      FROM closures WHERE object_id % 8 = 1;
    INSERT INTO candidates SELECT id FROM objects WHERE id % 7 = 0;
    -- Nothing needs any narinfo of block 40; 50 to 69 are condemned; of 50 the narinfos are gone; those of 60
    -- and 61 are claimed.
    DELETE FROM refs WHERE src BETWEEN 63001 AND 63500 AND dst BETWEEN 63001 AND 63500;
    DELETE FROM closures WHERE object_id BETWEEN 63001 AND 64500 OR object_id BETWEEN 78001 AND 108000;
    DELETE FROM pins WHERE object_id BETWEEN 63001 AND 64500 OR object_id BETWEEN 78001 AND 108000;
    DELETE FROM holds WHERE object_id BETWEEN 63001 AND 64500 OR object_id BETWEEN 78001 AND 108000;
    DELETE FROM multiparts WHERE object_id BETWEEN 63001 AND 64500 OR object_id BETWEEN 78001 AND 108000;
    UPDATE objects SET condemned_at = now() - interval '1 day' WHERE id BETWEEN 78001 AND 108000;
    DELETE FROM refs WHERE src BETWEEN 78001 AND 78500;
    DELETE FROM objects WHERE id BETWEEN 78001 AND 78500;
    UPDATE objects SET claimed_at = now(), claim = 7, claim_until = now() - interval '1 hour'
      WHERE id BETWEEN 93001 AND 93500 OR id BETWEEN 94501 AND 95000;";

/// A query, what it is asked, and how many rows it decides about.
struct Asked {
    name: &'static str,
    sql: String,
    params: String,
    rows: u64,
    /// Pages that it may touch for each of them: about twice what it does.
    pages: u64,
}

macro_rules! asked {
    ($name:literal, $params:expr, $rows:expr, $pages:expr) => {
        Asked {
            name: $name,
            sql: include_str!(concat!("sql/", $name, ".sql")).to_owned(),
            params: $params.into(),
            rows: $rows,
            pages: $pages,
        }
    };
}

/// All that a collector asks while others wait, or that grows with what it finds.
fn queries() -> Vec<Asked> {
    let ids = |from: u32, to: u32| {
        let ids: Vec<String> = (from..=to).map(|id| id.to_string()).collect();
        format!("'{{{}}}'", ids.join(","))
    };
    let old = "extract(epoch FROM now() - interval '30 days')";
    let top = i64::MAX;
    vec![
        asked!("fail_silent_uploads", "3600, 500", 500, 40),
        asked!("ended_uploads", "0, 20", 20, 10),
        asked!("release_holds", "2, 1000", 1000, 40),
        asked!("forget_uploads", "3600, 500", 500, 20),
        asked!("expire_closures", format!("{old}, 500"), 500, 30),
        asked!("take_candidates", format!("{top}, 1000"), 1000, 10),
        asked!("condemn", ids(63001, 63500), 500, 100),
        asked!("next_condemned", format!("{top}, 1000, 0"), 1000, 10),
        asked!("claim", format!("{}, 0, 110", ids(78501, 79500)), 1000, 80),
        asked!("delete_claimed", format!("7, {}", ids(93001, 93500)), 500, 100),
        asked!("lapse_claims", "1000", 1000, 50),
        asked!("revive", ids(100501, 101000), 500, 200),
    ]
}

/// The same question as an anti-join.
fn bad() -> Asked {
    let form = "(SELECT true FROM holds h WHERE h.object_id = o.id LIMIT 1) IS NULL";
    let anti_join = "NOT EXISTS (SELECT FROM holds h WHERE h.object_id = o.id)";
    let mut bad = queries().into_iter().find(|query| query.name == "condemn").unwrap();
    bad.sql = bad.sql.replace(form, anti_join);
    bad.name = "bad";
    (bad.params, bad.rows) = ("'{63001,63002,63003}'".to_owned(), 3);
    bad
}

/// How the tables are said to be.
const STATISTICS: &[(&str, &str)] = &[
    ("of empty tables", ""),
    (
        "of small tables",
        "UPDATE pg_class SET relpages = 1, reltuples = 3 WHERE relnamespace = 'public'::regnamespace \
         AND relkind IN ('r', 'i')",
    ),
    ("as they are", "ANALYZE"),
];

const PLAN_MODES: &[&str] = &["force_generic_plan", "force_custom_plan"];

/// A server of its own: nobody else's tables are analysed, and it does nothing by itself.
async fn empty() -> (TempDir, Postgres, Connection) {
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let dir = tempfile::Builder::new().permissions(everyone).tempdir().unwrap();
    let settings = [("fsync", "off"), ("autovacuum", "off")];
    let postgres = Postgres::start(PostgresOptions {
        data_dir: dir.path().join("postgres"),
        settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
    })
    .await
    .unwrap();
    postgres.create_database_if_absent("niks3").await.unwrap();
    let url: DatabaseUrl = postgres.connection_string("niks3").parse().unwrap();
    let store = url.pool().unwrap();
    super::migrate(&store).await.unwrap();
    // With the settings that every connection of ours has.
    let connection = store.connection().await.unwrap();
    run(&connection, CACHE).await;
    run(&connection, "ANALYZE").await;
    (dir, postgres, connection)
}

async fn run(connection: &Connection, sql: &str) {
    let done = connection.0.batch_execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Prepares the queries as the pool does, and has them planned once.
async fn prepare(connection: &Connection, queries: &[Asked]) {
    for Asked { name, sql, params, .. } in queries {
        run(connection, &format!("PREPARE {name} AS {sql}")).await;
        run(connection, &format!("EXPLAIN EXECUTE {name}({params})")).await;
    }
}

/// What is wrong with the way in which `query` is carried out.
async fn faults(connection: &Connection, query: &Asked) -> Vec<String> {
    let explain = format!(
        "BEGIN; EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE {}({}); ROLLBACK",
        query.name, query.params
    );
    let messages = connection.0.simple_query(&explain).await;
    let messages = messages.unwrap_or_else(|error| panic!("{}: {error:?}", query.name));
    let text = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let explained: Value = serde_json::from_str(text.unwrap()).unwrap();
    let plan = &explained[0]["Plan"];
    let mut faults = Vec::new();
    look(plan, &mut faults);
    let pages = pages(plan) + beside(plan, &text.unwrap_or_default().replace('\n', " "));
    if pages > query.rows * query.pages {
        faults.push(format!("{pages} pages for {} rows", query.rows));
    }
    if pages < query.rows {
        faults.push(format!("{pages} pages for {} rows: it did nothing", query.rows));
    }
    faults
}

/// Adds what is wrong with a node and those below it.
fn look(node: &Value, faults: &mut Vec<String>) {
    let of = |name: &str| node[name].as_str().unwrap_or_default();
    let place = node["Index Name"].as_str().unwrap_or_else(|| of("Relation Name"));
    let reads_whole = match of("Node Type") {
        "Seq Scan" | "Hash Join" | "Merge Join" => true,
        "Index Scan" | "Index Only Scan" | "Bitmap Index Scan" => {
            // That one has nothing but what is asked for.
            node["Index Cond"].is_null() && place != "objects_claimed"
        }
        _ => false,
    };
    if reads_whole {
        faults.push(format!("{} {place}", of("Node Type")));
    }
    for below in node["Plans"].as_array().into_iter().flatten() {
        look(below, faults);
    }
}

/// Pages that a node touches, with the nodes below it.
fn pages(node: &Value) -> u64 {
    let names = ["Shared Hit Blocks", "Shared Read Blocks"];
    names.iter().filter_map(|name| node[name].as_u64()).sum()
}

/// Pages of statements in a WITH that nothing else reads: they are carried out last, and are not in
/// what the whole touches.
fn beside(plan: &Value, text: &str) -> u64 {
    let below = plan["Plans"].as_array().into_iter().flatten();
    let beside = below.filter(|node| {
        let name = node["Subplan Name"].as_str().and_then(|name| name.strip_prefix("CTE "));
        name.is_some_and(|name| !text.contains(&format!("\"CTE Name\": \"{name}\"")))
    });
    beside.map(pages).sum()
}

/// All that is wrong with these queries, each with how PostgreSQL came to plan it.
async fn all_faults(connection: &Connection, queries: &[Asked], how: &str) -> Vec<String> {
    let mut all = Vec::new();
    for query in queries {
        let found = faults(connection, query).await;
        all.extend(found.iter().map(|fault| format!("{}, {how}: {fault}", query.name)));
    }
    all
}

#[tokio::test]
async fn garbage_collection_reads_by_index_whatever_the_statistics_say() {
    let (_dir, postgres, connection) = empty().await;
    let (queries, bad) = (queries(), [bad()]);
    // Sessions live long, and what they have prepared they may have planned when the cache was new.
    prepare(&connection, &queries).await;
    run(&connection, "SET plan_cache_mode = force_generic_plan").await;
    prepare(&connection, &bad).await;
    run(&connection, FILL).await;
    // This test can fail: asked as an anti-join, whether anybody holds it reads all holds.
    let found = all_faults(&connection, &bad, "").await;
    assert!(found.iter().any(|fault| fault.contains("holds")), "{found:?}");

    run(&connection, "RESET plan_cache_mode").await;
    let mut found = all_faults(&connection, &queries, "planned when the tables were empty").await;
    for (said, statistics) in STATISTICS {
        run(&connection, statistics).await;
        for mode in PLAN_MODES {
            run(&connection, &format!("DEALLOCATE ALL; SET plan_cache_mode = {mode}")).await;
            prepare(&connection, &queries).await;
            let how = format!("statistics {said}, {mode}");
            found.extend(all_faults(&connection, &queries, &how).await);
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    drop(connection);
    postgres.stop().await;
}
