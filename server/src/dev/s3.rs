//! An S3 server inside this process, on a folder: for `niks3-server dev` and for tests.
//!
//! The protocol is `s3s`, the files are `s3s-fs`; `store` stands between the two and keeps
//! what a cache relies on. Anyone may read an object, everything else is for the one key pair.
//! Not meant for more than a trial: nothing is synced to the disk, and a listing reads all of
//! the folder.
//!
//! `s3s` logs every error that it answers, a 404 included, as an error: see [`LOG_DIRECTIVES`].

mod api;
mod body;
mod listing;
mod locks;
mod names;
mod parts;
mod store;

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rustix::{
    fs::{FlockOperation, flock},
    process::{Resource, getrlimit, setrlimit},
};
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    auth::SimpleAuth,
    host::{S3Host, VirtualHost},
    service::{S3Service, S3ServiceBuilder},
};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use store::Store;

/// What to add to a log filter, so that a key that is looked for and not there is no error in
/// the log.
pub const LOG_DIRECTIVES: &str = "s3s=off,s3s_fs=off";

/// Connections at once; further ones wait to be accepted. Most are idle in somebody's pool: with too few,
/// whoever has none waits for the 90 s that others keep theirs.
const MAX_CONNECTIONS: u64 = 4096;
/// The same where a process may have few files open. Each connection takes up to three of them, and 1024
/// is usual.
const LEAST_CONNECTIONS: u64 = 256;
/// How long a client may take to send the head of its next request. Longer than the 90 s that
/// reqwest keeps an idle connection, so that it is the client who closes one and never sends a
/// request into a connection that is just being closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// After a failed accept, as when no more files may be opened: others close theirs meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Writes whose body has arrived are let finish; they take milliseconds, but for the end of a
/// large multipart upload, which copies all of it.
const STOP_BOUND: Duration = Duration::from_secs(30);
/// Locked while we serve the folder. No bucket may have such a name.
const LOCK_FILE: &str = ".niks3-lock";

/// What to serve.
pub struct S3Options {
    /// The folder; made if it does not exist. A bucket is a folder in it.
    pub root: PathBuf,
    /// Buckets to make if they do not exist.
    pub buckets: Vec<String>,
    /// Who may write: the name.
    pub access_key: String,
    /// Who may write: the secret.
    pub secret_key: String,
    /// Where to listen; with port 0, on a free one.
    pub listen: SocketAddr,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedS3Error {
    /// S3 has rules for names, which matter here since a bucket is a folder.
    #[error("{0:?} cannot be the name of an S3 bucket")]
    BucketName(String),
    /// Another process holds the lock.
    #[error("another process serves S3 from {}", root.display())]
    InUse {
        /// The folder.
        root: PathBuf,
    },
    /// The file system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `s3s-fs` could not clear away what an earlier run left.
    #[error("cannot use {} as S3 storage: {reason}", root.display())]
    Storage {
        /// The folder.
        root: PathBuf,
        /// In the words of `s3s-fs`, whose error is no `std::error::Error`.
        reason: String,
    },
    /// The address is taken, or not ours.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl EmbeddedS3Error {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::BucketName(_) => Some(
                "a name has 3 to 63 characters: lower case letters, digits, dots, hyphens"
                    .to_owned(),
            ),
            Self::InUse { .. } => {
                Some("stop the other niks3-server, or choose another --state-dir".to_owned())
            }
            Self::Listen { .. } => Some("choose another address or port".to_owned()),
            Self::Io { .. } | Self::Storage { .. } => None,
        }
    }
}

/// An S3 server that runs until it is stopped or dropped.
pub struct EmbeddedS3 {
    addr: SocketAddr,
    serving: JoinHandle<()>,
    store: Store,
}

impl EmbeddedS3 {
    /// Makes the folders and starts to serve them.
    ///
    /// # Errors
    /// See [`EmbeddedS3Error`].
    pub async fn start(options: S3Options) -> Result<Self, EmbeddedS3Error> {
        let S3Options { root, buckets, access_key, secret_key, listen } = options;
        for bucket in &buckets {
            if !s3s::path::check_bucket_name(bucket) {
                return Err(EmbeddedS3Error::BucketName(bucket.clone()));
            }
            let path = root.join(bucket);
            fs::create_dir_all(&path).map_err(io_error("create", path))?;
        }
        fs::create_dir_all(&root).map_err(io_error("create", root.clone()))?;
        let lock = lock(&root.join(LOCK_FILE), &root)?;
        let store = Store::open(&root, lock)?;

        let cannot_listen = |source| EmbeddedS3Error::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(cannot_listen)?;
        let addr = listener.local_addr().map_err(cannot_listen)?;

        let mut builder = S3ServiceBuilder::new(store.clone());
        builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
        builder.set_access(PublicRead);
        builder.set_host(Hosts { ip: addr.ip().to_string() });
        let serving = tokio::spawn(serve(listener, builder.build()));
        Ok(Self { addr, serving, store })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL, for a client on this machine.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let ip = match self.addr.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        format!("http://{}", SocketAddr::new(ip, self.addr.port()))
    }

    /// Closes all connections, and waits until what was received in full is stored.
    pub async fn stop(mut self) {
        self.serving.abort();
        if let Err(error) = (&mut self.serving).await {
            debug!(%error, "the embedded S3 server has stopped");
        }
        if timeout(STOP_BOUND, self.store.writes_done()).await.is_err() {
            warn!(waited_s = STOP_BOUND.as_secs(), "the embedded S3 server still writes");
        }
    }
}

impl Drop for EmbeddedS3 {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    // HTTP/1 only: to find out which version a client speaks, hyper would wait for its first
    // bytes without a timeout.
    let mut http = Builder::new(TokioExecutor::new()).http1_only();
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let slots = Arc::new(Semaphore::new(connections(open_files())));
    let mut connections = JoinSet::new();
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                warn!(%error, "the embedded S3 server cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = socket.set_nodelay(true) {
            debug!(%error, "a connection will be slower");
        }
        let connection = http.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
        connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(error, "a connection to the embedded S3 server broke");
            }
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// How many files this process may have open: from now on as many as it may ask for.
fn open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let now = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        // None at all: unlimited.
        Ok(()) => limit.current.unwrap_or(u64::MAX),
        Err(error) => {
            debug!(%error, "as many files may be open as before");
            now.unwrap_or(u64::MAX)
        }
    }
}

fn connections(open_files: u64) -> usize {
    (open_files / 4).clamp(LEAST_CONNECTIONS, MAX_CONNECTIONS) as usize
}

/// Anyone may read an object whose key they know.
struct PublicRead;

#[async_trait::async_trait]
impl S3Access for PublicRead {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        match (cx.credentials(), cx.s3_op().name()) {
            (Some(_), _) | (None, "GetObject" | "HeadObject") => Ok(()),
            (None, _) => Err(s3s::s3_error!(AccessDenied, "only objects are public")),
        }
    }
}

/// `<bucket>.localhost` and `<bucket>.<our address>` name a bucket, whatever the port; every
/// other name is just ours, with the bucket in the path.
struct Hosts {
    ip: String,
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let bucket = ["localhost", &self.ip]
            .into_iter()
            .find_map(|ours| name.strip_suffix(ours)?.strip_suffix('.'));
        Ok(match bucket {
            Some(bucket) => VirtualHost::new(name).with_bucket(bucket),
            None => VirtualHost::new(name),
        })
    }
}

/// Keeps a second server off the folder: both would use the same names for what they receive.
fn lock(path: &std::path::Path, root: &std::path::Path) -> Result<File, EmbeddedS3Error> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(io_error("open", path.to_owned()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(EmbeddedS3Error::InUse { root: root.to_owned() }),
        Err(error) => Err(io_error("lock", path.to_owned())(error.into())),
    }
}

fn io_error(action: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> EmbeddedS3Error {
    move |source| EmbeddedS3Error::Io { action, path, source }
}

#[cfg(test)]
mod tests;
