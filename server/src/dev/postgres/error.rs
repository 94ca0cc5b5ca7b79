//! What can go wrong with our own PostgreSQL, and what to do then.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

/// Why PostgreSQL does not run.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// It is not installed, or where we do not look.
    #[error("PostgreSQL's `initdb` and `postgres` are in none of {}", list(.searched))]
    NotFound {
        /// Where we looked.
        searched: Vec<PathBuf>,
    },
    /// The folder was made by a version that is not installed.
    #[error(
        "{data_dir} was made by PostgreSQL {wanted}, installed here: {}",
        .installed.join(", "),
        data_dir = data_dir.display()
    )]
    OtherVersion {
        /// The folder.
        data_dir: PathBuf,
        /// The major version that made it.
        wanted: String,
        /// The major versions that were found.
        installed: Vec<String>,
    },
    /// A program would not say which version it is.
    #[error("{} --version answered {answer:?}, which is no version", program.display())]
    UnknownVersion {
        /// The program.
        program: PathBuf,
        /// What it printed.
        answer: String,
    },
    /// The folder has other things in it.
    #[error("{} has files in it but is no PostgreSQL data folder", data_dir.display())]
    NotADataDir {
        /// The folder.
        data_dir: PathBuf,
    },
    /// Another process holds the lock.
    #[error("another process uses the PostgreSQL in {}", data_dir.display())]
    InUse {
        /// The folder.
        data_dir: PathBuf,
    },
    /// We are root, PostgreSQL must not be, and there is nobody else.
    #[error(
        "PostgreSQL refuses to run as root, and /etc/passwd has neither `postgres` nor `nobody`"
    )]
    NoAccount,
    /// Who PostgreSQL runs as cannot get at the folder.
    #[error(
        "PostgreSQL cannot run as root, and the user {user} cannot enter {blocked}, so not reach {folder}",
        blocked = blocked.display(),
        folder = folder.display()
    )]
    OutOfReach {
        /// Who PostgreSQL would run as.
        user: String,
        /// What it needs.
        folder: PathBuf,
        /// The folder on the way that is closed.
        blocked: PathBuf,
    },
    /// A program could not be started.
    #[error("cannot run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// initdb failed.
    #[error("{} failed ({status}):\n{lines}", program.display())]
    Initdb {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said last.
        lines: String,
    },
    /// initdb did not end.
    #[error("initdb was not done after {} s", waited.as_secs())]
    InitdbTooSlow {
        /// How long it had.
        waited: Duration,
    },
    /// PostgreSQL ended instead of starting.
    #[error("PostgreSQL ended while it started ({status}); the end of {}:\n{lines}", log.display())]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        lines: String,
    },
    /// PostgreSQL runs but does not answer.
    #[error(
        "PostgreSQL did not accept a connection within {} s; the end of {}:\n{lines}",
        waited.as_secs(),
        log.display()
    )]
    NotReady {
        /// How long it had.
        waited: Duration,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        lines: String,
        /// What the last attempt got.
        #[source]
        source: Option<tokio_postgres::Error>,
    },
    /// What an earlier run left behind does not end.
    #[error("the PostgreSQL that an earlier run left in {} does not stop (pid {pid})", data_dir.display())]
    LeftOver {
        /// The folder.
        data_dir: PathBuf,
        /// The process.
        pid: i32,
    },
    /// A database could not be created.
    #[error("cannot create the database {name:?}")]
    CreateDatabase {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
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
}

impl PostgresError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some(
                "install it (apt-get install postgresql, dnf install postgresql-server, brew \
                 install postgresql) or run inside `nix develop`"
                    .to_owned(),
            ),
            Self::OtherVersion { data_dir, wanted, .. } => Some(format!(
                "install PostgreSQL {wanted}, or start anew with another --state-dir or without {}",
                data_dir.display()
            )),
            Self::NotADataDir { .. } => Some("choose another --state-dir".to_owned()),
            Self::InUse { .. } => {
                Some("stop the other niks3-server, or choose another --state-dir".to_owned())
            }
            Self::NoAccount => Some("run it as an ordinary user".to_owned()),
            Self::OutOfReach { blocked, .. } => Some(format!(
                "choose another --state-dir such as /var/lib/niks3-dev, run it as an ordinary \
                 user, or: chmod o+x {}",
                blocked.display()
            )),
            Self::LeftOver { pid, .. } => Some(format!("stop it: kill -QUIT {pid}")),
            Self::UnknownVersion { .. }
            | Self::Spawn { .. }
            | Self::Initdb { .. }
            | Self::InitdbTooSlow { .. }
            | Self::Exited { .. }
            | Self::NotReady { .. }
            | Self::CreateDatabase { .. }
            | Self::Io { .. } => None,
        }
    }

    /// For `map_err`: what was tried on which path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}
