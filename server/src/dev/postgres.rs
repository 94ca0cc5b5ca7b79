//! A private PostgreSQL, for `niks3-server dev` and for tests: made on first use, reached through
//! a Unix socket that nobody else can open, stopped when we stop.
//!
//! Beside the data folder lie `postgres.log` and a lock file, so that no two of us use one folder.

mod account;
mod error;
mod left_over;
mod place;
mod programs;

use std::{fs::File, path::PathBuf, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    process::Child,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, NoTls, error::SqlState};
use tracing::{debug, warn};

pub use error::PostgresError;
use place::{Log, Place, Started};
use programs::Search;

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
        let started = place.spawn(&programs, &options.settings)?;
        let Started { child, socket_dir, lock, log } = started;
        let mut postgres = Self { child, socket_dir, _lock: lock };
        match postgres.wait_until_ready(&log).await {
            Ok(()) => Ok(postgres),
            Err(error) => {
                postgres.stop().await;
                Err(error)
            }
        }
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

/// A value of a connection string.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests;
