//! A private PostgreSQL, for `niks3-server dev` and for tests: made on first use, reached through
//! a Unix socket that nobody else can open, stopped when we stop.
//!
//! Beside the data folder lie `postgres.log` and a lock file, so that no two of us use one folder.

mod account;
mod error;
mod left_over;
mod programs;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, NoTls, error::SqlState};
use tracing::{debug, info, warn};

use account::Account;
pub use error::PostgresError;
use programs::{Programs, Search};

/// The only role: superuser of a cluster that only we can reach.
const USER: &str = "niks3";
/// The database that initdb makes, and from which others are created.
const FIRST_DATABASE: &str = "postgres";
/// Where the socket lies. A socket's path has at most 107 bytes (`unix(7)`), fewer than the path
/// of a state folder may have, so it gets a short folder of its own.
const SOCKET_ROOT: &str = "/tmp";
/// How the socket's folder begins, by which one that was left behind is known as ours.
const SOCKET_PREFIX: &str = "niks3-pg-";
/// Part of the socket's name only: nothing listens on TCP.
const PORT: &str = "5432";

/// initdb takes 0.4 s on an idle machine; a loaded one with a slow disk gets its time.
const INITDB_BOUND: Duration = Duration::from_secs(120);
/// A start takes 0.1 s, but after a crash the log is replayed first.
const START_BOUND: Duration = Duration::from_secs(60);
/// Between two looks whether something has happened: too short to be noticed.
const PAUSE: Duration = Duration::from_millis(25);
/// A fast shutdown ends the sessions and writes a checkpoint.
const FAST_SHUTDOWN_BOUND: Duration = Duration::from_secs(30);
/// An immediate shutdown writes nothing; PostgreSQL itself kills its children after 5 s.
const IMMEDIATE_SHUTDOWN_BOUND: Duration = Duration::from_secs(10);
/// How to stop it, and how long to wait before the next, ruder way.
const SHUTDOWN: [(Signal, Duration); 3] = [
    (Signal::INT, FAST_SHUTDOWN_BOUND),
    (Signal::QUIT, IMMEDIATE_SHUTDOWN_BOUND),
    (Signal::KILL, IMMEDIATE_SHUTDOWN_BOUND),
];
/// A log that is longer than this, in bytes, makes place for a new one at the next start.
const LOG_BYTES: u64 = 8 << 20;
/// Lines of the log, or of initdb's output, that an error quotes.
const QUOTED_LINES: usize = 12;

/// What to start.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The folder of the cluster; made if it does not exist.
    pub data_dir: PathBuf,
    /// Further settings, each given as `-c key=value`: `("fsync", "off")`.
    pub settings: Vec<(String, String)>,
}

/// A PostgreSQL that runs. Dropping it asks it to stop, [`Postgres::stop`] also waits for that.
pub struct Postgres {
    child: Child,
    socket_dir: TempDir,
    // Held as long as we use the folder; the kernel gives it back however we end.
    _lock: File,
}

impl Postgres {
    /// Makes the cluster if need be, stops what an earlier run left behind, starts PostgreSQL and
    /// waits until it answers. As root it runs as the owner of the data folder, which is `postgres`
    /// or `nobody` for a new one, since PostgreSQL refuses to run as root.
    ///
    /// # Errors
    /// See [`PostgresError`]; its [`hint`](PostgresError::hint) says what to do.
    pub async fn start(options: PostgresOptions) -> Result<Self, PostgresError> {
        Self::start_with(options, Search::of_this_system()).await
    }

    async fn start_with(options: PostgresOptions, search: Search) -> Result<Self, PostgresError> {
        let place = Place::prepare(&options.data_dir)?;
        let version = place.version()?;
        let programs = search.programs(version.as_deref(), &place.data_dir).await?;
        if version.is_none() {
            place.initdb(&programs).await?;
        }
        left_over::stop(&place.data_dir).await?;
        place.run(&programs, &options.settings).await
    }

    /// How `tokio-postgres` and libpq reach one of its databases.
    #[must_use]
    pub fn connection_string(&self, database: &str) -> String {
        let host = quoted(&self.socket_dir.path().to_string_lossy());
        format!("host={host} port={PORT} user={} dbname={}", quoted(USER), quoted(database))
    }

    /// Creates an empty database, unless there is one of that name.
    ///
    /// # Errors
    /// [`PostgresError::CreateDatabase`]
    pub async fn create_database_if_absent(&self, name: &str) -> Result<(), PostgresError> {
        match self.create_database(name).await {
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(()),
            Err(source) => Err(PostgresError::CreateDatabase { name: name.to_owned(), source }),
            Ok(()) => Ok(()),
        }
    }

    async fn create_database(&self, name: &str) -> Result<(), tokio_postgres::Error> {
        let client = self.connect(FIRST_DATABASE).await?;
        client.batch_execute(&format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).await
    }

    async fn connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) =
            tokio_postgres::connect(&self.connection_string(database), NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection to our own PostgreSQL ended");
            }
        });
        Ok(client)
    }

    /// Stops it: sessions end, what is committed is on disk. Ruder after a while.
    pub async fn stop(mut self) {
        for (signal, bound) in SHUTDOWN {
            self.signal(signal);
            if timeout(bound, self.child.wait()).await.is_ok() {
                return;
            }
            warn!(signal = ?signal, waited_s = bound.as_secs(), "PostgreSQL does not stop");
        }
    }

    fn signal(&self, signal: Signal) {
        // Without an id it has ended, and the number may be another's.
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(error) = pid.and_then(|pid| kill_process(pid, signal).err()) {
            warn!(%error, signal = ?signal, "cannot signal PostgreSQL");
        }
    }

    async fn wait_until_ready(&mut self, log: &Log) -> Result<(), PostgresError> {
        let started = Instant::now();
        loop {
            let refusal = match timeout(START_BOUND, self.connect(FIRST_DATABASE)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(refusal)) => Some(refusal),
                Err(_) => None,
            };
            let exited = self.child.try_wait().map_err(PostgresError::io("watch", &log.path))?;
            if let Some(status) = exited {
                let (log, lines) = (log.path.clone(), log.last_lines());
                return Err(PostgresError::Exited { status, log, lines });
            }
            if started.elapsed() > START_BOUND {
                let (log, lines) = (log.path.clone(), log.last_lines());
                let waited = START_BOUND;
                return Err(PostgresError::NotReady { waited, log, lines, source: refusal });
            }
            sleep(PAUSE).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal(Signal::INT);
    }
}

/// The folders and the account that one PostgreSQL lives with.
struct Place {
    data_dir: PathBuf,
    parent: PathBuf,
    /// Whom to run as; without one, as who we are.
    account: Option<Account>,
    lock: File,
}

impl Place {
    /// Makes the folder around the data folder, and takes the lock.
    fn prepare(data_dir: &Path) -> Result<Self, PostgresError> {
        let absolute =
            std::path::absolute(data_dir).map_err(PostgresError::io("find", data_dir))?;
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return Err(PostgresError::NotADataDir { data_dir: absolute });
        };
        fs::create_dir_all(parent).map_err(PostgresError::io("create", parent))?;
        // Without symbolic links: PostgreSQL's working directory is compared with it later.
        let parent = parent.canonicalize().map_err(PostgresError::io("find", parent))?;
        let data_dir = parent.join(name);

        let lock_path = sibling(&data_dir, ".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(PostgresError::io("open", &lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(PostgresError::InUse { data_dir }),
            Err(error) => return Err(PostgresError::io("lock", &lock_path)(error.into())),
        }
        let account = Account::to_run_as(&data_dir)?;
        if let Some(account) = &account {
            account.check_reach(&parent)?;
        }
        Ok(Self { data_dir, parent, account, lock })
    }

    /// The major version of the cluster that is there, if one is.
    fn version(&self) -> Result<Option<String>, PostgresError> {
        let path = self.data_dir.join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(PostgresError::io("read", &path)(error)),
        }
        let empty = match fs::read_dir(&self.data_dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if empty {
            Ok(None)
        } else {
            Err(PostgresError::NotADataDir { data_dir: self.data_dir.clone() })
        }
    }

    /// Makes a new cluster.
    async fn initdb(&self, programs: &Programs) -> Result<(), PostgresError> {
        // Under another name first. In place:
        //   1. we are killed while initdb runs
        //   2. the next start finds half a cluster that has a PG_VERSION, and tries to use it
        let unfinished = sibling(&self.data_dir, ".initdb");
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(PostgresError::io("remove", &unfinished)(error));
            }
            _ => {}
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&unfinished)
            .map_err(PostgresError::io("create", &unfinished))?;
        self.hand_over(&unfinished)?;

        let mut command = self.command(&programs.initdb);
        command.arg("-D").arg(&unfinished);
        command.args(["--username", USER, "--auth", "trust", "--encoding", "UTF8"]);
        command.args(["--no-locale", "--no-sync", "--no-instructions"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let run = timeout(INITDB_BOUND, command.output()).await;
        let output = match run {
            Ok(Ok(output)) => output,
            Ok(Err(source)) => {
                return Err(PostgresError::Spawn { program: programs.initdb.clone(), source });
            }
            Err(_) => return Err(PostgresError::InitdbTooSlow { waited: INITDB_BOUND }),
        };
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            let lines = last_lines(&String::from_utf8_lossy(&text));
            let program = programs.initdb.clone();
            return Err(PostgresError::Initdb { program, status: output.status, lines });
        }
        fs::rename(&unfinished, &self.data_dir)
            .map_err(PostgresError::io("create", &self.data_dir))?;
        info!(data_dir = %self.data_dir.display(), "made a new PostgreSQL cluster");
        Ok(())
    }

    /// Starts the server and waits for it.
    async fn run(
        self,
        programs: &Programs,
        settings: &[(String, String)],
    ) -> Result<Postgres, PostgresError> {
        let socket_dir = tempfile::Builder::new()
            .prefix(SOCKET_PREFIX)
            // All roles are trusted: who can open the socket is a superuser.
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(SOCKET_ROOT)
            .map_err(PostgresError::io("create a folder in", Path::new(SOCKET_ROOT)))?;
        self.hand_over(socket_dir.path())?;
        let log = Log::open(self.parent.join("postgres.log"))?;
        let (stdout, stderr) = log.writers()?;

        let mut command = self.command(&programs.postgres);
        command.arg("-D").arg(&self.data_dir);
        command.args(["-c", "listen_addresses=", "-c", &format!("port={PORT}")]);
        let socket = socket_dir.path().display();
        command.args(["-c", &format!("unix_socket_directories={socket}")]);
        for (key, value) in settings {
            command.args(["-c", &format!("{key}={value}")]);
        }
        command.stdout(stdout).stderr(stderr);
        // Its own process group. In ours, Ctrl-C in a terminal would stop the database at once,
        // while the server still finishes the requests that need it.
        command.process_group(0);
        let child = command.spawn().map_err(|source| {
            let program = programs.postgres.clone();
            PostgresError::Spawn { program, source }
        })?;

        let mut postgres = Postgres { child, socket_dir, _lock: self.lock };
        match postgres.wait_until_ready(&log).await {
            Ok(()) => Ok(postgres),
            Err(error) => {
                postgres.stop().await;
                Err(error)
            }
        }
    }

    /// A program of PostgreSQL, run as the right user and without what our environment says.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // PGDATA, PGPORT, PGOPTIONS and the like are meant for the user's own PostgreSQL.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // Messages in English; and on macOS it does not start without one that is set.
        command.env("LC_ALL", "C");
        // Ours may be one that the other account cannot enter.
        command.current_dir("/").stdin(Stdio::null());
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    fn hand_over(&self, folder: &Path) -> Result<(), PostgresError> {
        let Some(account) = &self.account else { return Ok(()) };
        std::os::unix::fs::chown(folder, Some(account.uid), Some(account.gid))
            .map_err(PostgresError::io("change the owner of", folder))
    }
}

/// Where PostgreSQL's messages go, and from where on they are those of this start.
struct Log {
    path: PathBuf,
    file: File,
    start: u64,
}

impl Log {
    fn open(path: PathBuf) -> Result<Self, PostgresError> {
        if fs::metadata(&path).is_ok_and(|metadata| metadata.size() > LOG_BYTES) {
            fs::rename(&path, sibling(&path, ".1")).map_err(PostgresError::io("rename", &path))?;
        }
        let open = OpenOptions::new().create(true).append(true).read(true).open(&path);
        let file = open.map_err(PostgresError::io("open", &path))?;
        let start = file.metadata().map_err(PostgresError::io("read", &path))?.len();
        Ok(Self { path, file, start })
    }

    fn writers(&self) -> Result<(File, File), PostgresError> {
        let clone = || self.file.try_clone().map_err(PostgresError::io("open", &self.path));
        Ok((clone()?, clone()?))
    }

    fn last_lines(&self) -> String {
        let mut text = Vec::new();
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(self.start));
        match read.and_then(|_| file.take(LOG_BYTES).read_to_end(&mut text)) {
            Ok(_) => last_lines(&String::from_utf8_lossy(&text)),
            Err(error) => format!("(the log cannot be read: {error})"),
        }
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}

/// A path beside this one, named like it and `suffix`.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A value of a connection string.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests;
