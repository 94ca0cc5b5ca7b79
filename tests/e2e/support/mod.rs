//! What the tests are told with: a cache of their own, stores, and ways to look inside.

mod bucket;
mod hand;
mod nginx;
mod nix;
mod parts;
mod pg_proxy;
mod s3_proxy;
mod server;
mod trees;

use std::{io::Write as _, path::Path, process::Output};

use serde_json::Value;
use tokio::process::Command;

pub use bucket::{Bucket, fields};
pub use hand::{Graph, HandPush, Refused};
pub use nginx::{Nginx, decoding_hop};
pub use nix::{Nix, NixStore, fixture, shared_store};
pub use parts::{TOKEN, connect, create_database, embedded_s3, http, parts};
pub use pg_proxy::{Fate, PgProxy};
pub use s3_proxy::{Fault, Record, S3Proxy, Seen, each, first, first_try};
pub use server::{PUBLIC_KEY, SIGNING_KEY, Server, ServerOptions, arguments, program, signal};
pub use trees::assert_same_tree;

/// A cache of one test: a database, a bucket and a server, all its own.
pub struct TestCache {
    pub server: Server,
    pub bucket: Bucket,
    pub database: String,
    /// Removed with the cache.
    pub dir: tempfile::TempDir,
}

impl TestCache {
    pub async fn start() -> Self {
        Self::start_with(ServerOptions::default()).await
    }

    /// With a proxy between S3 and both client and server.
    pub async fn behind_s3_proxy() -> (Self, S3Proxy) {
        let proxy = S3Proxy::start().await;
        let s3_endpoint = Some(proxy.endpoint());
        let options = ServerOptions { s3_endpoint, ..ServerOptions::default() };
        (Self::start_with(options).await, proxy)
    }

    pub async fn start_with(options: ServerOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = parts::create_database().await;
        let bucket = Bucket::create().await;
        let server = Server::start(dir.path(), &database, bucket.name(), options).await;
        Self { server, bucket, database, dir }
    }

    /// Runs `niks3 push` on paths of a store.
    pub async fn push(&self, store: &NixStore, paths: &[String]) -> Run {
        self.client(store, "push", paths).await
    }

    /// Runs a command of the client with this cache's server and token.
    pub async fn client(&self, store: &NixStore, command: &str, args: &[String]) -> Run {
        let output = self.command(store, command, args).output().await.unwrap();
        Run::new(output)
    }

    /// The same, not yet started.
    pub fn command(&self, store: &NixStore, command: &str, args: &[String]) -> Command {
        let mut program = client(store);
        let url = if command == "copy" { "--to" } else { "--server-url" };
        program.arg(command).args([url, &self.server.url(), "--store", &store.root()]).args(args);
        program.env("NIKS3_AUTH_TOKEN", TOKEN);
        program
    }

    /// A call of the API, by hand.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        self.server.call("POST", path, body).await
    }

    /// The same with another method.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        self.server.call(method, path, body).await
    }

    /// The same with GET.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("{}/api/v1/{path}", self.server.url());
        let response = parts::http().get(url).bearer_auth(TOKEN).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    /// A connection to the cache's database, to look or to meddle.
    pub async fn sql(&self) -> tokio_postgres::Client {
        parts::connect(&self.database).await
    }

    /// One number from the database.
    pub async fn count(&self, sql: &str) -> i64 {
        self.sql().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Every narinfo in the bucket can be realised: its NAR is there and is what it says, and so
    /// are the narinfos of its references.
    pub async fn assert_consistent(&self) {
        self.bucket.assert_consistent().await;
        // What the database takes for published is there too.
        let client = self.sql().await;
        let stored = "SELECT key FROM objects WHERE stored_at IS NOT NULL AND claimed_at IS NULL \
                      AND kind IN (1, 2)";
        let there = self.bucket.keys().await;
        for row in client.query(stored, &[]).await.unwrap() {
            let key: String = row.get(0);
            assert!(there.contains(&key), "{key} is stored says the database, and is not there");
        }
    }

    /// Runs `niks3-server fsck`.
    pub async fn fsck(&self, args: &[&str]) -> Run {
        run(program().arg("fsck").args(self.server.fsck_arguments()).args(args)).await
    }

    /// It finds nothing wrong.
    pub async fn assert_fsck(&self, args: &[&str], what: &str) {
        let run = self.fsck(args).await;
        assert_eq!(run.code, Some(0), "{what}: {}{}", run.stdout, run.stderr);
    }

    /// Real Nix realises every narinfo of the bucket into an empty store, signatures required.
    pub async fn assert_realisable(&self) {
        let mut paths = Vec::new();
        for key in self.bucket.keys_ending(".narinfo").await {
            paths.push(self.bucket.narinfo(&key).await["StorePath"].clone());
        }
        if !paths.is_empty() {
            let reader = NixStore::new(Nix::any());
            reader.substitute(self.bucket.reader(), &paths).await.ok();
        }
    }

    /// A push completes, whatever happened before; then all is there, and a further one has
    /// nothing to send.
    pub async fn assert_complete(&self, store: &NixStore, roots: &[String]) {
        self.push(store, roots).await.ok();
        self.assert_consistent().await;
        self.assert_realisable().await;
        let narinfos = self.bucket.keys_ending(".narinfo").await;
        for path in store.closure(roots).await {
            let narinfo = format!("{}.narinfo", &path["/nix/store/".len()..][..32]);
            assert!(narinfos.contains(&narinfo), "no {narinfo} of {path}");
        }
        let again = self.push(store, roots).await.ok();
        assert!(again.stderr.contains("nothing to send"), "{}", again.stderr);
    }
}

/// The client with an empty environment, set to a store.
pub fn client(store: &NixStore) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_niks3"));
    program.env_clear().env("PATH", store.nix.path()).env("HOME", store.dir.path());
    program.env("NIX_CONF_DIR", store.dir.path());
    program.kill_on_drop(true);
    program
}

/// How a program ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// It ended with this code, and said all of these.
    #[track_caller]
    pub fn failed(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in: {}", self.stderr);
        }
        self
    }
}

/// Runs a program to its end.
pub async fn run(command: &mut Command) -> Run {
    Run::new(command.output().await.unwrap())
}

/// A random number generator for tests, so that a seed repeats a run. SplitMix64.
pub struct Random(u64);

impl Random {
    /// Seeded by `NIKS3_TEST_SEED` or the clock; prints the seed.
    pub fn new(test: &str) -> Self {
        let given = std::env::var("NIKS3_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = given.unwrap_or(clock.as_nanos() as u64 % 1_000_000);
        say(&format!("{test}: NIKS3_TEST_SEED={seed}"));
        Self(seed)
    }

    /// With a given seed, which is not printed.
    pub fn from(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A figure or a seed, for whoever runs the tests: past the capture of cargo test, which shows what
/// `eprintln` says for failures only.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Rounds of what is random: few in the quick profile.
pub fn rounds(quick: u64) -> u64 {
    let given = std::env::var("NIKS3_TEST_ROUNDS").ok();
    given.and_then(|rounds| rounds.parse().ok()).unwrap_or(quick)
}

pub fn long_profile() -> bool {
    std::env::var_os("NIKS3_TEST_LONG").is_some()
}

pub fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
