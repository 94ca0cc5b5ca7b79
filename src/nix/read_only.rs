//! Reading a SQLite database beside whatever writes to it, without ever writing to it.
//!
//! Nix's database is in WAL mode: a reader needs the `-wal` and `-shm` files next to it, or the
//! right to make them (then SQLite does, and leaves them there). An ordinary user may lack both,
//! and then SQLite's `immutable=1` reads the main file alone. That is only correct while nothing
//! waits in the WAL, so we look before and after.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction};

use super::StoreDbError;

/// How long to wait for a lock. With a WAL nobody waits for readers or the other way round, so
/// this is for stores without one (`use-sqlite-wal = false`) and for a database being recovered.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

/// How often to read anew when the database changed while it was read as immutable.
const IMMUTABLE_READS: usize = 5;

/// A database that is opened for each reading.
#[derive(Clone, Debug)]
pub(super) struct ReadOnly {
    database: PathBuf,
    busy_timeout: Duration,
}

#[derive(Clone, Copy)]
enum Mode {
    /// Beside writers, with their locks.
    Live,
    /// The main file alone, without locks.
    Immutable,
}

impl ReadOnly {
    /// Nothing is opened yet.
    pub(super) fn new(database: PathBuf) -> Self {
        Self { database, busy_timeout: BUSY_TIMEOUT }
    }

    /// Runs `work` in one read transaction; more than once where that is needed.
    pub(super) fn read<T>(
        &self,
        work: impl Fn(&Transaction<'_>) -> Result<T, StoreDbError>,
    ) -> Result<T, StoreDbError> {
        let refused = match self.attempt(Mode::Live, &work) {
            Err(refused @ StoreDbError::Unreadable { .. }) => refused,
            answer => return answer,
        };
        let look = || Files::look(&self.database);
        match undisturbed(look, || self.attempt(Mode::Immutable, &work))? {
            Immutable::Read(answer) => Ok(answer),
            Immutable::NotAllInMainFile => Err(refused),
            Immutable::Disturbed => Err(StoreDbError::Restless { database: self.database.clone() }),
        }
    }

    fn attempt<T>(
        &self,
        mode: Mode,
        work: impl Fn(&Transaction<'_>) -> Result<T, StoreDbError>,
    ) -> Result<T, StoreDbError> {
        let connect = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_URI
                | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(uri(&self.database, mode), flags)?;
            connection.busy_timeout(self.busy_timeout)?;
            Ok(connection)
        };
        let mut connection = connect().map_err(|source| self.failed(source))?;
        let tx = connection.transaction().map_err(|source| self.failed(source))?;
        work(&tx)
    }

    /// What an error of SQLite means.
    pub(super) fn failed(&self, source: rusqlite::Error) -> StoreDbError {
        let (database, waited) = (self.database.clone(), self.busy_timeout);
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreDbError::Locked { database, waited, source }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                StoreDbError::Unreadable { database, source }
            }
            _ => StoreDbError::Query { database, source },
        }
    }
}

/// How reading the main file alone went.
#[derive(Debug, PartialEq, Eq)]
enum Immutable<T> {
    Read(T),
    NotAllInMainFile,
    Disturbed,
}

/// Runs `attempt` until the files look the same before and after it.
fn undisturbed<T>(
    mut look: impl FnMut() -> Result<Files, StoreDbError>,
    mut attempt: impl FnMut() -> Result<T, StoreDbError>,
) -> Result<Immutable<T>, StoreDbError> {
    for _ in 0..IMMUTABLE_READS {
        let before = look()?;
        if !before.all_in_main_file() {
            return Ok(Immutable::NotAllInMainFile);
        }
        let answer = attempt();
        // The look afterwards prevents this:
        //   1. we find no WAL and read half of the closure
        //   2. Nix adds paths, and writes some of it to the main file
        //   3. we read the other half, of another state
        if look()? == before {
            return answer.map(Immutable::Read);
        }
    }
    Ok(Immutable::Disturbed)
}

/// What can be seen of the database's files without opening them.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    /// Which file it is, its size, and when it changed.
    main: [i128; 5],
    wal_bytes: u64,
    journal_bytes: u64,
}

impl Files {
    fn look(database: &Path) -> Result<Self, StoreDbError> {
        let look = || {
            let main = fs::metadata(database)?;
            let beside = |suffix: &str| {
                let mut name = database.as_os_str().to_owned();
                name.push(suffix);
                match fs::metadata(name) {
                    Ok(file) => Ok(file.len()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
                    Err(error) => Err(error),
                }
            };
            let changed = i128::from(main.mtime()) * 1_000_000_000 + i128::from(main.mtime_nsec());
            let touched = i128::from(main.ctime()) * 1_000_000_000 + i128::from(main.ctime_nsec());
            Ok(Self {
                main: [main.dev().into(), main.ino().into(), main.len().into(), changed, touched],
                wal_bytes: beside("-wal")?,
                journal_bytes: beside("-journal")?,
            })
        };
        look().map_err(|source| StoreDbError::Look { path: database.to_owned(), source })
    }

    /// Nothing waits in a WAL, and no transaction is half written.
    fn all_in_main_file(&self) -> bool {
        self.wal_bytes == 0 && self.journal_bytes == 0
    }
}

/// A file name as SQLite's URI: every byte that could mean something there is escaped.
/// <https://www.sqlite.org/uri.html>
fn uri(database: &Path, mode: Mode) -> String {
    let mut uri = String::from("file:");
    for byte in database.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str(match mode {
        Mode::Live => "?mode=ro",
        Mode::Immutable => "?mode=ro&immutable=1",
    });
    uri
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
        process::Command,
    };

    use super::*;

    fn open(folder: &Path, journal: &str) -> (Connection, ReadOnly) {
        let database = folder.join("a %41?#db");
        let connection = Connection::open(&database).unwrap();
        connection.pragma_update(None, "journal_mode", journal).unwrap();
        connection.execute_batch("CREATE TABLE T(n); INSERT INTO T VALUES (1)").unwrap();
        (connection, ReadOnly { database, busy_timeout: Duration::from_millis(50) })
    }

    fn count(db: &ReadOnly) -> Result<i64, StoreDbError> {
        db.read(|tx| {
            tx.query_row("SELECT count(*) FROM T", (), |row| row.get(0))
                .map_err(|source| db.failed(source))
        })
    }

    #[test]
    fn what_is_only_in_the_wal_is_read_while_a_writer_is_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, db) = open(folder.path(), "wal");
        writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        writer
            .execute_batch("INSERT INTO T VALUES (2); BEGIN IMMEDIATE; INSERT INTO T VALUES (3)")
            .unwrap();
        assert!(!Files::look(&db.database).unwrap().all_in_main_file());
        assert_eq!(count(&db).unwrap(), 2);
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(count(&db).unwrap(), 3);
    }

    #[test]
    fn one_reading_sees_one_state_whatever_is_written_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, db) = open(folder.path(), "wal");
        let query = |tx: &Transaction<'_>| {
            tx.query_row("SELECT count(*) FROM T", (), |row| row.get::<_, i64>(0))
                .map_err(|source| db.failed(source))
        };
        let counts = db.read(|tx| {
            let before = query(tx)?;
            writer.execute_batch("INSERT INTO T VALUES (2)").unwrap();
            Ok((before, query(tx)?))
        });
        assert_eq!(counts.unwrap(), (1, 1));
        assert_eq!(count(&db).unwrap(), 2);
    }

    #[test]
    fn a_locked_database_is_a_clear_error_after_a_bounded_wait() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, db) = open(folder.path(), "delete");
        writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let error = count(&db).unwrap_err();
        assert!(matches!(error, StoreDbError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("is locked") && !error.is_out_of_reach());
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(count(&db).unwrap(), 1);
    }

    #[test]
    fn a_change_or_anything_in_the_wal_is_seen_from_outside() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, db) = open(folder.path(), "delete");
        let before = Files::look(&db.database).unwrap();
        assert!(before.all_in_main_file());
        assert_eq!(Files::look(&db.database).unwrap(), before);
        let beside = |suffix: &str| folder.path().join(format!("a %41?#db{suffix}"));
        fs::write(beside("-wal"), "").unwrap();
        assert!(Files::look(&db.database).unwrap().all_in_main_file());
        for suffix in ["-wal", "-journal"] {
            fs::write(beside(suffix), "x").unwrap();
            assert!(!Files::look(&db.database).unwrap().all_in_main_file());
            fs::remove_file(beside(suffix)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20)); // file systems count in ticks of 4 to 10 ms
        writer.execute_batch("INSERT INTO T VALUES (2)").unwrap();
        assert_ne!(Files::look(&db.database).unwrap(), before);
    }

    #[test]
    fn an_immutable_reading_counts_only_if_nothing_changed_meanwhile() {
        let files = |changed: i128, wal_bytes: u64| Files {
            main: [1, 2, 3, changed, 0],
            wal_bytes,
            journal_bytes: 0,
        };
        let run = |looks: Vec<Files>| {
            let mut looks = looks.into_iter();
            let mut readings = 0;
            let read = undisturbed(
                || Ok(looks.next().unwrap()),
                || {
                    readings += 1;
                    // What is torn may look damaged.
                    let database = PathBuf::new();
                    if readings == 1 { Err(StoreDbError::Restless { database }) } else { Ok(()) }
                },
            );
            (read, readings)
        };
        let changed = vec![files(1, 0), files(2, 0), files(2, 0), files(2, 0)];
        assert!(matches!(run(changed), (Ok(Immutable::Read(())), 2)));
        let damaged = vec![files(1, 0), files(1, 0)];
        assert!(matches!(run(damaged), (Err(_), 1)));
        let wal_appears = vec![files(1, 0), files(1, 9), files(1, 9)];
        assert!(matches!(run(wal_appears), (Ok(Immutable::NotAllInMainFile), 1)));
        let always: Vec<Files> = (0..2 * IMMUTABLE_READS as i128).map(|n| files(n, 0)).collect();
        assert!(matches!(run(always), (Ok(Immutable::Disturbed), IMMUTABLE_READS)));
    }

    /// Runs a test of this program as a user to whom permissions apply. Already such a user: in a
    /// process of its own all the same.
    fn run_unprivileged(test: &str, folder: &Path) {
        const NOBODY: u32 = 65534;
        let mut program = std::env::current_exe().unwrap();
        if rustix::process::geteuid().is_root() {
            // Where it was built may be closed to others.
            let copy = folder.join("test-program");
            fs::copy(&program, &copy).unwrap();
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
            program = copy;
        }
        let mut command = Command::new(program);
        command.args(["--exact", "--ignored", "--nocapture", test]).env("NIKS3_TEST_DB", folder);
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY).current_dir("/");
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    /// Compares what a user without the right to write sees in `NIKS3_TEST_DB` with the file
    /// `expected` there.
    #[test]
    #[ignore = "run by a_user_without_rights_reads_the_main_file_only_if_nothing_is_in_the_wal"]
    fn as_a_user_without_rights() {
        let Some(folder) = std::env::var_os("NIKS3_TEST_DB").map(PathBuf::from) else { return };
        let database = folder.join("a %41?#db");
        assert!(fs::write(folder.join("x"), "").is_err(), "permissions do not apply");
        let db = ReadOnly { database, busy_timeout: Duration::from_millis(50) };
        let expected = fs::read_to_string(folder.join("expected")).unwrap();
        let live = db.attempt(Mode::Live, |tx| {
            tx.query_row("SELECT count(*) FROM T", (), |row| row.get::<_, i64>(0))
                .map_err(|source| db.failed(source))
        });
        let live = if live.is_ok() { "live" } else { "not live" };
        let found = match count(&db) {
            Ok(count) => format!("{live}: {count}"),
            Err(StoreDbError::Unreadable { .. }) => format!("{live}: out of reach"),
            Err(error) => format!("{live}: {error:?}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_user_without_rights_reads_the_main_file_only_if_nothing_is_in_the_wal() {
        let test = "nix::read_only::tests::as_a_user_without_rights";
        let state = |prepare: &dyn Fn(Connection, &Path), expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            let (writer, _) = open(folder.path(), "wal");
            prepare(writer, folder.path());
            fs::write(folder.path().join("expected"), expected).unwrap();
            let closed = fs::Permissions::from_mode(0o555);
            fs::set_permissions(folder.path(), closed).unwrap();
            run_unprivileged(test, folder.path());
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        };
        let beside = |folder: &Path, suffix: &str| folder.join(format!("a %41?#db{suffix}"));
        // As Nix 2.8 leaves it: the last one to close removes -wal and -shm.
        state(&|writer, _| drop(writer), "not live: 1");
        // As Nix 2.26 and 2.34 leave it: both are there, and empty.
        state(
            &|writer, folder| {
                drop(writer);
                fs::write(beside(folder, "-wal"), "").unwrap();
                fs::write(beside(folder, "-shm"), [0; 32768]).unwrap();
            },
            "live: 1",
        );
        // Beside a process that writes.
        state(
            &|writer, folder| {
                writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
                writer.execute_batch("INSERT INTO T VALUES (2)").unwrap();
                assert!(beside(folder, "-shm").exists());
                Box::leak(Box::new(writer));
            },
            "live: 2",
        );
        // After a crash, and someone removed the -shm: the main file would lack a row.
        state(
            &|writer, folder| {
                writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
                writer.execute_batch("INSERT INTO T VALUES (2)").unwrap();
                let wal = fs::read(beside(folder, "-wal")).unwrap();
                drop(writer);
                fs::write(beside(folder, "-wal"), wal).unwrap();
                assert!(!beside(folder, "-shm").exists());
            },
            "not live: out of reach",
        );
    }
}
