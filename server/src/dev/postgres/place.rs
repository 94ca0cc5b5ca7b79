//! What lies around a running PostgreSQL: its folders, its lock, its account and its log.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::timeout,
};
use tracing::info;

use super::{
    PORT, PostgresError, SOCKET_PREFIX, SOCKET_ROOT, USER, account::Account, programs::Programs,
};

/// initdb takes 0.4 s on an idle machine; a loaded one with a slow disk gets its time.
const INITDB_BOUND: Duration = Duration::from_secs(120);
/// A log that is longer than this, in bytes, makes place for a new one at the next start.
const LOG_BYTES: u64 = 8 << 20;
/// Lines of the log, or of initdb's output, that an error quotes.
const QUOTED_LINES: usize = 12;

/// The folders and the account that one PostgreSQL lives with.
pub(super) struct Place {
    pub(super) data_dir: PathBuf,
    parent: PathBuf,
    /// Whom to run as; without one, as who we are.
    account: Option<Account>,
    lock: File,
}

/// A server that has been started, and what it needs as long as it runs.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) socket_dir: TempDir,
    pub(super) lock: File,
    pub(super) log: Log,
}

impl Place {
    /// Makes the folder around the data folder, and takes the lock.
    pub(super) fn prepare(data_dir: &Path) -> Result<Self, PostgresError> {
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
    pub(super) fn version(&self) -> Result<Option<String>, PostgresError> {
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
    pub(super) async fn initdb(&self, programs: &Programs) -> Result<(), PostgresError> {
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

    /// Starts the server; it does not answer yet.
    pub(super) fn spawn(
        self,
        programs: &Programs,
        settings: &[(String, String)],
    ) -> Result<Started, PostgresError> {
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

        Ok(Started { child, socket_dir, lock: self.lock, log })
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
pub(super) struct Log {
    pub(super) path: PathBuf,
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

    pub(super) fn last_lines(&self) -> String {
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
