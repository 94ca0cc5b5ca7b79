//! PostgreSQL behind a bad line: a TCP proxy that the server takes for its database, and that cuts
//! connections when the test says so, at a chosen COMMIT too.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};
use tokio_postgres::config::{Config, Host};

use super::parts::database_url;

/// How tokio-postgres ends a transaction: a simple query.
const COMMIT: &[u8] = b"COMMIT\0";

/// The message with which PostgreSQL ends each answer: type, length and one byte.
const READY_FOR_QUERY: usize = 6;

/// What becomes of a transaction whose COMMIT is cut. The server cannot tell one from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// PostgreSQL never hears of it, and rolls back.
    Lost,
    /// PostgreSQL has committed, and its answer is lost.
    Committed,
}

/// The proxy. It lives as long as the test's runtime.
#[derive(Clone)]
pub struct PgProxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    socket: PathBuf,
    refusing: AtomicBool,
    commits: AtomicUsize,
    /// COMMITs until then, and what happens to that one.
    cut_at: Mutex<Option<(usize, Fate)>>,
    /// Changes when all connections are to be cut.
    cut_all: watch::Sender<()>,
}

impl PgProxy {
    /// Before the PostgreSQL of this run.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = config();
        let Host::Unix(dir) = &config.get_hosts()[0] else { panic!("{config:?}") };
        let shared = Arc::new(Shared {
            socket: dir.join(format!(".s.PGSQL.{}", config.get_ports()[0])),
            refusing: AtomicBool::new(false),
            commits: AtomicUsize::default(),
            cut_at: Mutex::default(),
            cut_all: watch::Sender::new(()),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((server, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                tokio::spawn(async move { drop(shared.serve(server).await) });
            }
        });
        Self { port, shared }
    }

    /// For [`super::ServerOptions::database_url`].
    pub fn database_url(&self) -> String {
        let user = config().get_user().unwrap().to_owned();
        format!("host=127.0.0.1 port={} user='{user}' dbname='DATABASE'", self.port)
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.shared.cut_all.send_replace(());
    }

    /// From now on new connections are cut at once, or are not any more.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refusing.store(refuse, Ordering::Relaxed);
    }

    /// COMMITs so far.
    pub fn commits(&self) -> usize {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Cuts the connection of the `n`-th COMMIT from now on; 1 is the next one.
    pub fn cut_commit(&self, n: usize, fate: Fate) {
        *self.shared.cut_at.lock().unwrap() = Some((n, fate));
    }

    /// Whether that COMMIT has come.
    pub fn has_cut_commit(&self) -> bool {
        self.shared.cut_at.lock().unwrap().is_none()
    }
}

/// How the tests reach PostgreSQL: its socket.
fn config() -> Config {
    database_url("DATABASE").parse().unwrap()
}

impl Shared {
    async fn serve(&self, mut server: TcpStream) -> io::Result<()> {
        // A reset, not an orderly end, whoever ends it.
        server.set_zero_linger()?;
        server.set_nodelay(true)?;
        let mut cut_all = self.cut_all.subscribe();
        if self.refusing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut postgres = UnixStream::connect(&self.socket).await?;
        let (from_server, to_server) = server.split();
        let (from_postgres, to_postgres) = postgres.split();
        let muted = AtomicBool::new(false);
        tokio::select! {
            end = self.pass_queries(from_server, to_postgres, &muted) => end,
            end = pass_answers(from_postgres, to_server, &muted) => end,
            _ = cut_all.changed() => Ok(()),
        }
    }

    /// Message by message, until the end or a COMMIT that is lost.
    async fn pass_queries(
        &self,
        from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        muted: &AtomicBool,
    ) -> io::Result<()> {
        let mut from = BufReader::new(from);
        let mut typed = false;
        loop {
            // The first message has a length only; the length does not count the type.
            let mut message = vec![0; usize::from(typed) + 4];
            from.read_exact(&mut message).await?;
            let length = u32::from_be_bytes(message[usize::from(typed)..].try_into().unwrap());
            let start = message.len();
            message.resize(start + length as usize - 4, 0);
            from.read_exact(&mut message[start..]).await?;
            if typed && message[0] == b'Q' && message[start..] == *COMMIT {
                match self.meet_commit() {
                    Some(Fate::Lost) => return Ok(()),
                    Some(Fate::Committed) => muted.store(true, Ordering::Relaxed),
                    None => {}
                }
            }
            to.write_all(&message).await?;
            typed = true;
        }
    }

    fn meet_commit(&self) -> Option<Fate> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        let mut cut_at = self.cut_at.lock().unwrap();
        let (left, fate) = cut_at.as_mut()?;
        *left -= 1;
        let now = (*left == 0).then_some(*fate);
        if now.is_some() {
            *cut_at = None;
        }
        now
    }
}

/// Until the end, or the answer to the COMMIT that muted us: then it is committed.
async fn pass_answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    muted: &AtomicBool,
) -> io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        if !muted.load(Ordering::Relaxed) {
            to.write_all(&chunk[..read]).await?;
        } else if read >= READY_FOR_QUERY && chunk[read - READY_FOR_QUERY] == b'Z' {
            return Ok(());
        }
    }
}
