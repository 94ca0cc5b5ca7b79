//! The real `niks3-server`, as a process of its own, so that it can be killed.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::process::{Child, Command};

use super::parts::{TOKEN, database_url, http, parts};

/// How long a server may take until it is healthy. A loaded machine gets its time.
const START_BOUND: Duration = Duration::from_secs(60);

/// The secret key of `shared/nix/samples/key`: test data, known to everyone.
pub const SIGNING_KEY: &str = "binary-cache-test-1:P3IA3lXplG9zVhw1oOFQ/5m/7r2uzWCnRGV3H7szHJ+whgW7HfXV47bf6lD0iCACdanLNPCi+O2VtvUvLPVt5g==";
pub const PUBLIC_KEY: &str = "binary-cache-test-1:sIYFux311eO23+pQ9IggAnWpyzTwovjtlbb1Lyz1beY=";

/// How a test's server differs from the default.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Another S3 endpoint than that of this run, such as a proxy before it.
    pub s3_endpoint: Option<String>,
    /// Another way to the database, which is called `DATABASE` in it.
    pub database_url: Option<String>,
    /// Further flags.
    pub args: Vec<String>,
}

impl ServerOptions {
    pub fn args(args: &[&str]) -> Self {
        Self { args: args.iter().map(ToString::to_string).collect(), ..Self::default() }
    }
}

pub struct Server {
    child: Child,
    address: String,
    log: PathBuf,
    command: Vec<String>,
    dir: PathBuf,
}

impl Server {
    pub async fn start(dir: &Path, database: &str, bucket: &str, options: ServerOptions) -> Self {
        let command = arguments_with(dir, database, bucket, &options);
        Self::spawn(dir, command, "127.0.0.1:0").await
    }

    async fn spawn(dir: &Path, command: Vec<String>, address: &str) -> Self {
        let log = dir.join("server.log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let already = file.metadata().unwrap().len() as usize;
        let mut child = program();
        child.args(&command).args(["--http-addr", address]);
        child.stderr(file).stdout(Stdio::null()).kill_on_drop(true);
        let mut child = child.spawn().unwrap();
        let started = Instant::now();
        let address = loop {
            let text = std::fs::read_to_string(&log).unwrap();
            let address = text[already..].split("http.address=").nth(1);
            if let Some(address) = address.and_then(|rest| rest.split_whitespace().next()) {
                break address.to_owned();
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && started.elapsed() < START_BOUND, "no server: {text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let server = Self { child, address, log, command, dir: dir.to_owned() };
        let health = format!("{}/health", server.url());
        while !http().get(&health).send().await.is_ok_and(|answer| answer.status() == 200) {
            assert!(started.elapsed() < START_BOUND, "not healthy: {}", server.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A call of the API, by hand.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let url = format!("{}/api/v1/{path}", self.url());
        let request = http().request(method.parse().unwrap(), url).bearer_auth(TOKEN).body(body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The flags that `niks3-server fsck` takes, as this server has them.
    pub fn fsck_arguments(&self) -> Vec<String> {
        let others = ["--api-token-path", "--sign-key-path", "--cache-url", "--http-addr"];
        let mut arguments = Vec::new();
        let mut command = self.command.iter();
        while let Some(argument) = command.next() {
            if others.contains(&argument.as_str()) {
                command.next();
            } else {
                arguments.push(argument.clone());
            }
        }
        arguments
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM; answers the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        signal(&self.child, rustix::process::Signal::TERM);
        self.child.wait().await.unwrap().code()
    }

    /// Starts it again where it was.
    pub async fn restart(&mut self) {
        let again = Self::spawn(&self.dir, self.command.clone(), &self.address).await;
        *self = again;
    }

    /// Starts it again where it was, with further flags from then on.
    pub async fn restart_with(&mut self, args: &[&str]) {
        self.terminate().await;
        self.command.extend(args.iter().map(ToString::to_string));
        self.restart().await;
    }

    /// Another server for the same cache.
    pub async fn twin(&self) -> Self {
        let dir = self.dir.join("twin");
        std::fs::create_dir_all(&dir).unwrap();
        Self::spawn(&dir, self.command.clone(), "127.0.0.1:0").await
    }
}

/// Sends a signal to a process of ours.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// `niks3-server` with an empty environment.
pub fn program() -> Command {
    let client = Path::new(env!("CARGO_BIN_EXE_niks3"));
    let server = client.with_file_name("niks3-server");
    assert!(server.exists(), "{server:?} is not built: cargo build --workspace --bins");
    let mut command = Command::new(server);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// The flags that every test server has, but for its address.
pub fn arguments(dir: &Path, database: &str, bucket: &str) -> Vec<String> {
    arguments_with(dir, database, bucket, &ServerOptions::default())
}

fn arguments_with(
    dir: &Path,
    database: &str,
    bucket: &str,
    options: &ServerOptions,
) -> Vec<String> {
    let s3 = &parts().s3;
    let database_url = match &options.database_url {
        Some(url) => url.replace("DATABASE", database),
        None => database_url(database),
    };
    let s3_endpoint = options.s3_endpoint.as_ref().unwrap_or(&s3.endpoint);
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    [
        ("--db", database_url),
        ("--s3-endpoint", s3_endpoint.clone()),
        ("--s3-region", s3.region.clone()),
        ("--s3-bucket", bucket.to_owned()),
        ("--s3-access-key", s3.access_key.clone()),
        ("--s3-secret-key-path", file("s3-secret", &s3.secret_key)),
        ("--api-token-path", file("token", TOKEN)),
        ("--sign-key-path", file("signing-key", SIGNING_KEY)),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .chain(options.args.iter().cloned())
    .collect()
}
