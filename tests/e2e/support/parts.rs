//! The parts that all tests of one run share: PostgreSQL, the embedded S3, an HTTP client. They
//! run on a thread of their own, since each test has its own runtime.

use std::{
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use niks3_server::dev::{
    postgres::{Postgres, PostgresOptions},
    s3::{EmbeddedS3, S3Options},
};
use tokio_postgres::{Client, NoTls};

/// The token of every test server.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef0123";

/// Where S3 is and who we are to it.
#[derive(Clone, Debug)]
pub struct S3 {
    pub endpoint: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
    /// Whether anyone may read: then Nix reads from it directly.
    pub public: bool,
}

pub struct Parts {
    postgres: String,
    pub s3: S3,
    /// Lives longer than any test.
    pub runtime: tokio::runtime::Handle,
}

/// Whether the S3 server is the embedded one, whose behaviour we know.
pub fn embedded_s3() -> bool {
    parts().s3.public
}

/// Starts them on first use.
pub fn parts() -> &'static Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| {
        show_panics();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let (parts, _keep) = start().await;
                sender.send(parts).unwrap();
                std::future::pending::<()>().await;
            });
        });
        receiver.recv().expect("the parts start")
    })
}

/// Where a test failed is said at once, besides at the end: a log may be cut off before.
fn show_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        super::say(&format!("{}: {panic}", thread.name().unwrap_or("a task")));
        usual(panic);
    }));
}

async fn start() -> (Parts, (Postgres, Option<EmbeddedS3>)) {
    // PostgreSQL runs as another user where we are root: the folder must be open to it.
    let dir = tempfile::Builder::new()
        .prefix("niks3-e2e-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap()
        .keep();
    let settings = [
        ("fsync", "off"),
        ("max_connections", "300"),
        ("shared_preload_libraries", "pg_stat_statements"),
        // Of all tests at once: what is thrown out for lack of room would be missed.
        ("pg_stat_statements.max", "50000"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let data_dir = dir.join("postgres");
    let postgres = Postgres::start(PostgresOptions { data_dir: data_dir.clone(), settings });
    let postgres = postgres.await.unwrap();
    let pid = std::fs::read_to_string(data_dir.join("postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().to_owned();
    let connection = postgres.connection_string("DATABASE");
    let socket = connection.split('\'').nth(1).unwrap().to_owned();
    clean_up_after_us(&pid, &[dir.to_str().unwrap(), &socket]);

    let (s3, embedded) = match std::env::var("NIKS3_TEST_S3_ENDPOINT") {
        Ok(endpoint) => {
            let var = |name: &str| std::env::var(format!("NIKS3_TEST_S3_{name}")).unwrap();
            let s3 = S3 {
                endpoint,
                region: std::env::var("NIKS3_TEST_S3_REGION").unwrap_or("us-east-1".to_owned()),
                access_key: var("ACCESS_KEY"),
                secret_key: var("SECRET_KEY"),
                public: false,
            };
            (s3, None)
        }
        Err(_) => {
            let (access_key, secret_key) = ("test-access-key", "test-secret-key");
            let embedded = EmbeddedS3::start(S3Options {
                root: dir.join("s3"),
                buckets: Vec::new(),
                access_key: access_key.to_owned(),
                secret_key: secret_key.to_owned(),
                listen: "127.0.0.1:0".parse().unwrap(),
            });
            let embedded = embedded.await.unwrap();
            let s3 = S3 {
                endpoint: embedded.endpoint(),
                region: "us-east-1".to_owned(),
                access_key: access_key.to_owned(),
                secret_key: secret_key.to_owned(),
                public: true,
            };
            (s3, Some(embedded))
        }
    };
    let runtime = tokio::runtime::Handle::current();
    (Parts { postgres: connection, s3, runtime }, (postgres, embedded))
}

/// A test run may end at any moment, and nothing is dropped then: a shell waits for the end of its
/// standard input, which comes with the end of this process.
fn clean_up_after_us(pid: &str, dirs: &[&str]) {
    let script = r#"cat >/dev/null; kill -INT "$1"; pid=$1; shift
        for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
        rm -rf -- "$@""#;
    let mut watchdog = Command::new("sh")
        .args(["-c", script, "watchdog", pid])
        .args(dirs)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::mem::forget(watchdog.stdin.take());
    // It outlives us by design; whoever adopts it reaps it.
    std::thread::spawn(move || watchdog.wait());
}

/// The connection string of a database.
pub fn database_url(database: &str) -> String {
    parts().postgres.replace("DATABASE", database)
}

pub async fn connect(database: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&database_url(database), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A fresh database; answers its name.
pub async fn create_database() -> String {
    let name = format!("test_{}", unique());
    let client = connect("postgres").await;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    name
}

/// A number that no other test of this process, nor of one that runs beside it, has.
pub fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}{}{next}", std::process::id(), clock.as_secs() % 1_000_000)
}

pub fn http() -> reqwest::Client {
    // Each test has a runtime of its own, and a client's connections live in one.
    reqwest::Client::new()
}
