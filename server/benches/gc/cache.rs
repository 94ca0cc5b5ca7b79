//! A PostgreSQL with a cache in it that nobody has pushed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use niks3_server::{
    dev::postgres::{Postgres, PostgresOptions},
    store::{self, DatabaseUrl},
};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::{BLOCK, options::Options};

const CACHE: &str = include_str!("cache.sql");

/// How long a mark may take.
const MARK_BOUND: Duration = Duration::from_secs(300);

/// Blocks that one statement makes.
const AT_ONCE: u64 = 500;

/// As PostgreSQL comes, but for these. Statistics are gathered when we say so; what takes how long is
/// counted; and no checkpoint of the load falls into the measurement.
const SETTINGS: [(&str, &str); 5] = [
    ("autovacuum", "off"),
    ("shared_preload_libraries", "pg_stat_statements"),
    ("pg_stat_statements.track", "all"),
    ("maintenance_work_mem", "512MB"),
    ("max_wal_size", "4GB"),
];

/// A mark as other collectors make it: everything that is reachable, then what is not.
const MARK: &str = "
    WITH RECURSIVE live(id) AS (
      SELECT object_id FROM closures WHERE pushed_at > now() - make_interval(days => $1 - 5)
      UNION SELECT object_id FROM pins WHERE object_id IS NOT NULL
      UNION SELECT object_id FROM holds
      UNION SELECT r.dst FROM live JOIN refs r ON r.src = live.id)
    SELECT count(*) FROM objects o WHERE NOT EXISTS (SELECT FROM live WHERE live.id = o.id)";

pub struct Cluster {
    postgres: Postgres,
    folder: TempDir,
    data_dir: PathBuf,
}

pub struct Cache {
    client: Client,
    data_dir: PathBuf,
    pub url: String,
}

impl Cluster {
    pub async fn start(options: &Options) -> Self {
        let everyone = fs::Permissions::from_mode(0o755);
        let mut folder = tempfile::Builder::new();
        folder.prefix("niks3-bench-gc-").permissions(everyone);
        let folder = folder.tempdir_in(&options.dir).unwrap();
        let data_dir = match &options.keep {
            Some(keep) => {
                fs::create_dir_all(keep).unwrap();
                keep.join("postgres")
            }
            None => folder.path().join("postgres"),
        };
        let settings = SETTINGS.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let options = PostgresOptions { data_dir: data_dir.clone(), settings };
        let postgres = Postgres::start(options).await.unwrap();
        Self { postgres, folder, data_dir }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub async fn stop(self) {
        self.postgres.stop().await;
    }

    /// A cache of `size` objects, and garbage of these sizes that is to be told to be old.
    pub async fn cache(&self, size: u64, garbage: &[u64]) -> Cache {
        let blocks: u64 = size.saturating_sub(3000) / BLOCK
            + garbage.iter().map(|garbage| garbage.div_ceil(BLOCK)).sum::<u64>();
        let name = format!("blocks_{blocks}");
        let admin = self.connect("postgres").await;
        let known = "SELECT true FROM pg_database WHERE datname = $1";
        if admin.query_opt(known, &[&name]).await.unwrap().is_none() {
            self.make(&admin, "unfinished", blocks).await;
            admin
                .batch_execute(&format!("ALTER DATABASE unfinished RENAME TO {name}"))
                .await
                .unwrap();
        }
        let client = self.connect(&name).await;
        let (data_dir, url) = (self.data_dir.clone(), self.postgres.connection_string(&name));
        Cache { client, data_dir, url }
    }

    async fn make(&self, admin: &Client, name: &str, blocks: u64) {
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
        self.postgres.create_database_if_absent(name).await.unwrap();
        let url: DatabaseUrl = self.postgres.connection_string(name).parse().unwrap();
        store::migrate(&url.pool().unwrap()).await.unwrap();
        let client = self.connect(name).await;
        // Nothing of it needs to last if the machine stops now.
        client.batch_execute("SET synchronous_commit = off").await.unwrap();
        client.batch_execute(CACHE).await.unwrap();
        client.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
        client.batch_execute("SELECT bench.begin_load(); SELECT bench.add_core()").await.unwrap();
        for first in (0..blocks).step_by(AT_ONCE as usize) {
            let count = AT_ONCE.min(blocks - first);
            let add = format!("SELECT bench.add_blocks({first}, {count}, now(), NULL)");
            client.batch_execute(&add).await.unwrap();
        }
        client.batch_execute("SELECT bench.end_load()").await.unwrap();
        // Pushes under way hold some of the core.
        let holds = "INSERT INTO uploads (id, caller, state, created_at, expires_at, paths, roots) \
                       SELECT n, 'x', 0, now(), now() + interval '1 year', 0, '{}' \
                       FROM generate_series(1, 20) AS n; \
                     INSERT INTO holds SELECT number, n FROM uploads, generate_series(1, 1000) AS n";
        client.batch_execute(holds).await.unwrap();
    }

    async fn connect(&self, database: &str) -> Client {
        let url = self.postgres.connection_string(database);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Cache {
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Makes so many closures, evenly spread over the cache, older than so many days.
    pub async fn expire(&self, blocks: u64, days: u32, size: u64) {
        let all = size.saturating_sub(3000) / BLOCK;
        let every = (all / blocks).max(1);
        let sql = format!(
            "UPDATE closures SET pushed_at = now() - interval '{days} days' WHERE object_id IN ( \
               SELECT object_id FROM closures WHERE pushed_at > now() - interval '500 days' \
                 AND (object_id - 3500) / {BLOCK} % {every} = {every} / 2 \
               ORDER BY object_id LIMIT {blocks})"
        );
        let changed = self.client.execute(&sql, &[]).await.unwrap();
        assert_eq!(changed, blocks, "there are so many closures");
    }

    /// Closures of so many days' age, pushed last.
    pub async fn append(&self, blocks: u64, days: u32, hot: Option<i64>) {
        let first = self.next_block().await;
        let hot = hot.map_or("NULL".to_owned(), |hot| hot.to_string());
        let sql = format!(
            "ALTER TABLE objects DISABLE TRIGGER USER; \
             SELECT bench.add_blocks({first}, {blocks}, now() - interval '{days} days', {hot}); \
             SELECT bench.count();"
        );
        self.client.batch_execute(&sql).await.unwrap();
    }

    pub async fn append_hot(&self) -> i64 {
        let first = self.next_block().await;
        let sql = format!("SELECT bench.add_hot({first})");
        self.client.query_one(&sql, &[]).await.unwrap().get(0)
    }

    async fn next_block(&self) -> i64 {
        let sql = "SELECT (max(id) - 3000) / 1500 + 1 FROM objects";
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// As autovacuum would leave it some time after a change.
    pub async fn settle(&self) {
        self.client.batch_execute("VACUUM ANALYZE").await.unwrap();
        self.client.batch_execute("CHECKPOINT").await.unwrap();
    }

    /// As ANALYZE leaves it when the tables are empty: what comes after is unknown to it.
    pub async fn make_statistics_stale(&self) {
        let stale = "
            UPDATE pg_class SET relpages = 0, reltuples = 0
              WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i');
            DELETE FROM pg_statistic WHERE starelid IN
              (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace);
            CHECKPOINT";
        for statement in stale.split(';') {
            self.client.batch_execute(statement).await.unwrap();
        }
    }

    /// The classical way to find the same garbage. Answers also how much it finds: none, if it did not
    /// end within [`MARK_BOUND`].
    pub async fn mark(&self, days: u32) -> (Duration, u64) {
        let bound = format!("SET statement_timeout = {}", MARK_BOUND.as_millis());
        self.client.batch_execute(&bound).await.unwrap();
        let started = Instant::now();
        let row = self.client.query_one(MARK, &[&(days as i32)]).await;
        let took = started.elapsed();
        self.client.batch_execute("RESET statement_timeout").await.unwrap();
        (took, row.map_or(0, |row| row.get::<_, i64>(0) as u64))
    }

    /// CPU seconds that sessions of PostgreSQL took which have ended.
    pub fn cpu_of_sessions(&self) -> f64 {
        let pid = fs::read_to_string(self.data_dir.join("postmaster.pid")).unwrap();
        let stat = format!("/proc/{}/stat", pid.lines().next().unwrap());
        let stat = fs::read_to_string(stat).unwrap();
        // The name is in brackets; after it come fields 3 and on: proc_pid_stat(5).
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: f64 = fields[13..15].iter().map(|field| field.parse::<f64>().unwrap()).sum();
        ticks / 100.0
    }

    /// A file for each object of the old closures that no other closure has.
    pub async fn write_garbage(&self, days: u32, bucket: &Path) -> Vec<PathBuf> {
        let sql = format!(
            "SELECT o.key FROM closures c JOIN objects o \
             ON o.id BETWEEN c.object_id - 499 AND c.object_id + 1000 \
             WHERE c.pushed_at < now() - make_interval(days => {days} - 5)"
        );
        let rows = self.client.query(&sql, &[]).await.unwrap();
        fs::create_dir_all(bucket.join("nar")).unwrap();
        let files = rows.iter().map(|row| bucket.join(row.get::<_, &str>(0)));
        files.inspect(|file| fs::write(file, "a body").unwrap()).collect()
    }

    /// Forgets what statements took so far.
    pub async fn reset_statements(&self) {
        let reset = "SELECT pg_stat_statements_reset()";
        self.client.batch_execute(reset).await.unwrap();
    }

    /// What took longest since, a line for each statement.
    pub async fn statements(&self) -> String {
        let sql = "SELECT format('%8s ms %7s calls %8s rows  %s', round(total_exec_time), calls, rows, \
                     left(regexp_replace(regexp_replace(query, '--[^\\n]*\\n', '', 'g'), '\\s+', ' ', 'g'), 90)) \
                   FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 12";
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
    }

    /// Milliseconds that statements with this text took since.
    pub async fn statement_ms(&self, text: &str) -> f64 {
        let sql = "SELECT coalesce(sum(total_exec_time), 0)::float8 FROM pg_stat_statements \
                   WHERE position($1 IN query) > 0 AND query NOT LIKE '%pg_stat_statements%'";
        self.client.query_one(sql, &[&text]).await.unwrap().get(0)
    }
}
