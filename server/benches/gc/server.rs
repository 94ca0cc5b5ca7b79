//! The real niks3-server, and one collection of it.

use std::{
    fs,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{cache::Cache, stub::Stub, tables::Run};

pub const BUCKET: &str = "bench";
pub const ACCESS_KEY: &str = "bench";
pub const SECRET_KEY: &str = "bench-secret-key-of-no-use";
const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789";
/// Of Nix's own tests: known to everyone.
const SIGNING_KEY: &str = "binary-cache-test-1:P3IA3lXplG9zVhw1oOFQ/5m/7r2uzWCnRGV3H7szHJ+whgW7HfXV47bf6lD0iCACdanLNPCi+O2VtvUvLPVt5g==";

/// What takes the server's deletes.
pub enum Bucket {
    Stub(Stub),
    Real(String),
}

impl Bucket {
    fn endpoint(&self) -> &str {
        match self {
            Self::Stub(stub) => &stub.endpoint,
            Self::Real(endpoint) => endpoint,
        }
    }
}

type Lines = Arc<Mutex<Vec<(Instant, String)>>>;

pub struct Server {
    child: Child,
    lines: Lines,
    http: reqwest::Client,
    pub url: String,
    _dir: tempfile::TempDir,
}

impl Server {
    pub async fn start(cache: &Cache, bucket: &Bucket) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_niks3-server"));
        command
            .env_clear()
            .env("RUST_LOG", "niks3_server::gc=debug,info")
            .args(["--http-addr", "127.0.0.1:0", "--s3-bucket", BUCKET, "--s3-use-ssl", "false"])
            .args(["--db", &cache.url, "--s3-endpoint", bucket.endpoint()])
            .args(["--s3-access-key", ACCESS_KEY, "--s3-bucket-lookup", "path"])
            .arg("--s3-secret-key-path")
            .arg(file("s3-secret", SECRET_KEY))
            .arg("--api-token-path")
            .arg(file("token", TOKEN))
            .arg("--sign-key-path")
            .arg(file("signing-key", SIGNING_KEY))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = Lines::default();
        let mut reader = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok(Some(line)) = reader.next_line().await {
                kept.lock().unwrap().push((Instant::now(), line));
            }
        });
        let mut server =
            Self { child, lines, http: reqwest::Client::new(), url: String::new(), _dir: dir };
        let address = server.line("http.address=").await.1;
        let address = field(&address, "http.address=").unwrap().to_owned();
        server.url = format!("http://{address}/api/v1");
        server
    }

    /// The first line that contains `text`, as soon as there is one.
    async fn line(&mut self, text: &str) -> (Instant, String) {
        loop {
            if let Some(line) = self.seen(text) {
                return line;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {:?}", self.lines.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn seen(&self, text: &str) -> Option<(Instant, String)> {
        let lines = self.lines.lock().unwrap();
        lines.iter().find(|(_, line)| line.contains(text)).cloned()
    }

    pub async fn post(&self, path: &str, body: String) -> Value {
        let request = self.http.post(format!("{}/{path}", self.url)).bearer_auth(TOKEN).body(body);
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn delete(&self, path: &str) {
        let request = self.http.delete(format!("{}/{path}", self.url)).bearer_auth(TOKEN);
        let status = request.send().await.unwrap().status();
        assert!(status.is_success(), "{path}: {status}");
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}/{path}", self.url)).bearer_auth(TOKEN);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Collects what is older than almost so many days, without any grace.
    pub async fn collect(&self, cache: &Cache, bucket: &Bucket, days: u32) -> Run {
        cache.reset_statements().await;
        if let Bucket::Stub(stub) = bucket {
            stub.take_deletes();
        }
        let older_than = (u64::from(days) - 5) * 24 * 60 * 60;
        let request =
            json!({"older_than": older_than, "failed_uploads_older_than": 0, "force": true});
        self.post("gc", request.to_string()).await;
        let last = loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let last = self.get("gc").await["collection"].clone();
            if last["state"] != "running" {
                break last;
            }
        };
        if last["state"] != "finished" {
            self.lines.lock().unwrap().iter().for_each(|(_, line)| eprintln!("{line}"));
            panic!("{last}");
        }
        let progress = &last["progress"];
        let at = |text: &str| self.seen(text).unwrap_or_else(|| panic!("no line has {text}")).0;
        let condemn = at("gc.phase=Condemn");
        let sweep = at("gc.phase=Delete");
        let turns: Vec<f64> = self
            .lines
            .lock()
            .unwrap()
            .iter()
            .filter_map(|(_, line)| field(line, "gc.turn_ms=")?.parse().ok())
            .collect();
        Run {
            garbage: progress["objects-marked-for-deletion"].as_u64().unwrap(),
            deleted: progress["objects-deleted-after-grace-period"].as_u64().unwrap(),
            condemn: sweep - condemn,
            sweep: at("garbage collection has ended") - sweep,
            looks_ms: cache.statement_ms("AS ripe").await,
            claims_ms: cache.statement_ms("SET claimed_at = t.at").await,
            rows_ms: cache.statement_ms("o.claim = $1").await,
            deletes: match bucket {
                Bucket::Stub(stub) => stub.take_deletes(),
                Bucket::Real(_) => 0,
            },
            turns: turns.len() as u64,
            longest_turn_ms: turns.into_iter().fold(0.0, f64::max),
            peak_kb: self.peak_kb(),
            ..Run::default()
        }
    }

    fn peak_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap()));
        let status = status.unwrap();
        let peak = field(&status, "VmHWM:").unwrap();
        peak.parse().unwrap()
    }

    pub async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The word after `name`.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_once(name)?.1.split_whitespace().next()
}
