//! Nix's database: which paths are valid, and what it knows of them.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs, io,
    path::PathBuf,
    time::Duration,
};

use niks3_core::store_path::StorePath;
use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{StoreSettings, ValidPath, read_only::ReadOnly, realisations};

/// The layout of the tables that we know, as Nix writes it to the file `schema`. It has not
/// changed since Nix 2.0.
const SCHEMA: &str = "10";

const PATH_COLUMNS: &str = "id, path, hash, narSize, deriver, ca, sigs";

/// Why the database gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreDbError {
    /// There is none.
    #[error("there is no Nix database {database:?}")]
    Missing {
        /// Where it should be.
        database: PathBuf,
    },
    /// Its folder may not be looked into.
    #[error("cannot look at {path:?}")]
    Look {
        /// At what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is there and may not be read, or only with files beside it that may not be made.
    #[error("cannot open the Nix database {database:?}")]
    Unreadable {
        /// Which.
        database: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Written by a Nix that we do not know.
    #[error("{file:?} says that Nix's database has layout {found:?}, known is only {SCHEMA}")]
    Schema {
        /// The file that says so.
        file: PathBuf,
        /// What it says.
        found: String,
    },
    /// Another process holds a lock.
    #[error("the Nix database {database:?} is locked, and still was after {} s", .waited.as_secs())]
    Locked {
        /// Which.
        database: PathBuf,
        /// How long we waited for it.
        waited: Duration,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// Changed whenever it was read without a lock.
    #[error("the Nix database {database:?} changed while it was read, again and again")]
    Restless {
        /// Which.
        database: PathBuf,
    },
    /// Damaged, or not what we take it for.
    #[error("cannot read from the Nix database {database:?}")]
    Query {
        /// Which.
        database: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// Never built, or collected as garbage.
    #[error("{path} is not in the store")]
    NotValid {
        /// The store path, absolute.
        path: String,
    },
    /// Nix writes a size since 2008.
    #[error("the Nix database has no NAR size for {path}")]
    NoSize {
        /// The store path, absolute.
        path: String,
    },
    /// A value that cannot be what it should be.
    #[error("the Nix database has an unreadable {column} for {path}: {value:?}")]
    Value {
        /// The store path as it stands there.
        path: String,
        /// The column of `ValidPaths` or `DerivationOutputs`.
        column: &'static str,
        /// What is there.
        value: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreDbError {
    /// Whether someone else, such as Nix's daemon, may be able to read what we could not.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Look { .. } | Self::Unreadable { .. } => true,
            // It was read without locks, which the daemon need not do.
            Self::Restless { .. } => true,
            _ => false,
        }
    }

    /// What a person can do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing { .. } | Self::Look { .. } | Self::Unreadable { .. } => {
                "is this the right store? --store, NIX_STATE_DIR and NIX_REMOTE say which"
            }
            Self::Schema { .. } => "this niks3 is older or newer than the Nix that wrote it",
            Self::Locked { .. } | Self::Restless { .. } => "try again when Nix is less busy",
            Self::NotValid { .. } => "build it first, for instance with `nix build`",
            Self::NoSize { .. } => "`nix-store --delete` it and build or fetch it anew",
            Self::Query { .. } | Self::Value { .. } => "`nix-store --verify` checks the database",
        };
        Some(hint.to_owned())
    }
}

/// Nix's database. Every call reads one consistent state of it.
#[derive(Clone, Debug)]
pub struct StoreDb {
    db: ReadOnly,
    settings: StoreSettings,
}

impl StoreDb {
    /// Checks that the database is there, can be read and has the layout that we know.
    ///
    /// # Errors
    /// When it is not so. [`StoreDbError::is_out_of_reach`] tells whether `nix` may help.
    pub fn open(settings: &StoreSettings) -> Result<Self, StoreDbError> {
        let database = settings.database();
        let look = |path: PathBuf| |source| StoreDbError::Look { path, source };
        if !database.try_exists().map_err(look(database.clone()))? {
            return Err(StoreDbError::Missing { database });
        }
        let file = database.with_file_name("schema");
        let found = fs::read_to_string(&file).map_err(look(file.clone()))?;
        if found.trim() != SCHEMA {
            return Err(StoreDbError::Schema { file, found: found.trim().to_owned() });
        }
        let db = Self { db: ReadOnly::new(database), settings: settings.clone() };
        db.db.read(|tx| db.texts(tx, "SELECT path FROM ValidPaths LIMIT 1", ()))?;
        Ok(db)
    }

    /// `roots` and all that they refer to, directly or not: breadth first, each path once, the
    /// roots in front.
    ///
    /// # Errors
    /// When a root is not in the store, or the database cannot be read.
    pub fn closure(&self, roots: &[StorePath]) -> Result<Vec<ValidPath>, StoreDbError> {
        let mut closure = self.db.read(|tx| self.closure_in(tx, roots))?;
        realisations::add_other_layout(&self.settings, &mut closure);
        Ok(closure)
    }

    /// Every path of the store, sorted.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn all_paths(&self) -> Result<Vec<StorePath>, StoreDbError> {
        self.db.read(|tx| {
            let texts = self.texts(tx, "SELECT path FROM ValidPaths", ())?;
            let mut paths: Vec<StorePath> =
                texts.iter().map(|text| self.parse_path(text)).collect::<Result<_, _>>()?;
            paths.sort();
            Ok(paths)
        })
    }

    /// The outputs of a derivation that are in the store. A content-addressed derivation is not
    /// known to have any.
    ///
    /// # Errors
    /// When the derivation itself is not in the store, or the database cannot be read.
    pub fn outputs_of(&self, derivation: &StorePath) -> Result<Vec<StorePath>, StoreDbError> {
        const OUTPUTS: &str = "SELECT output.path FROM DerivationOutputs output
            JOIN ValidPaths valid ON valid.path = output.path
            WHERE output.drv = (SELECT id FROM ValidPaths WHERE path = ?1)
            ORDER BY output.id";
        const VALID: &str = "SELECT path FROM ValidPaths WHERE path = ?1";
        let path = derivation.absolute(&self.settings.store_dir);
        self.db.read(|tx| {
            if self.texts(tx, VALID, [&path])?.is_empty() {
                return Err(StoreDbError::NotValid { path: path.clone() });
            }
            self.texts(tx, OUTPUTS, [&path])?.iter().map(|text| self.parse_path(text)).collect()
        })
    }

    fn closure_in(
        &self,
        tx: &Transaction<'_>,
        roots: &[StorePath],
    ) -> Result<Vec<ValidPath>, StoreDbError> {
        let failed = |source| self.db.failed(source);
        let prepare = |filter: &str| {
            tx.prepare(&format!("SELECT {PATH_COLUMNS} FROM ValidPaths WHERE {filter} = ?1"))
                .map_err(failed)
        };
        let (mut by_path, mut by_id) = (prepare("path")?, prepare("id")?);
        let mut references =
            tx.prepare("SELECT reference FROM Refs WHERE referrer = ?1").map_err(failed)?;

        let mut index_of: HashMap<i64, usize> = HashMap::new();
        let mut found: Vec<(i64, ValidPath)> = Vec::new();
        for root in roots {
            let path = root.absolute(&self.settings.store_dir);
            let row = by_path.query_row([&path], PathRow::read).optional().map_err(failed)?;
            let row = row.ok_or(StoreDbError::NotValid { path })?;
            if let Entry::Vacant(new) = index_of.entry(row.id) {
                new.insert(found.len());
                found.push((row.id, self.valid_path(row)?));
            }
        }
        let mut refers_to: Vec<Vec<usize>> = Vec::new();
        while let Some((id, _)) = found.get(refers_to.len()) {
            let ids = references.query_map([id], |row| row.get(0)).map_err(failed)?;
            let ids: Vec<i64> = ids.collect::<Result<_, _>>().map_err(failed)?;
            let mut indexes = Vec::with_capacity(ids.len());
            for id in ids {
                indexes.push(match index_of.entry(id) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        let row = by_id.query_row([id], PathRow::read).map_err(failed)?;
                        let index = *new.insert(found.len());
                        found.push((id, self.valid_path(row)?));
                        index
                    }
                });
            }
            refers_to.push(indexes);
        }
        let names: Vec<StorePath> = found.iter().map(|(_, path)| path.path.clone()).collect();
        let (ids, mut closure): (Vec<i64>, Vec<ValidPath>) = found.into_iter().unzip();
        for (path, indexes) in closure.iter_mut().zip(refers_to) {
            path.references = indexes.into_iter().map(|index| names[index].clone()).collect();
            path.references.sort();
        }
        realisations::read(tx, &self.settings.store_dir, &ids, &mut closure);
        Ok(closure)
    }

    /// Checks a row. Its references come later.
    fn valid_path(&self, row: PathRow) -> Result<ValidPath, StoreDbError> {
        let path = self.parse_path(&row.path)?;
        let nar_hash =
            row.hash.parse().map_err(|source| value(&row.path, "hash", &row.hash, source))?;
        let ca = row.ca.filter(|ca| !ca.is_empty());
        let ca = ca.map(|ca| ca.parse().map_err(|source| value(&row.path, "ca", &ca, source)));
        let nar_size = row.nar_size.and_then(|size| u64::try_from(size).ok()).filter(|n| *n > 0);
        Ok(ValidPath {
            path,
            nar_hash,
            nar_size: nar_size.ok_or_else(|| StoreDbError::NoSize { path: row.path.clone() })?,
            references: Vec::new(),
            // Neither is needed to use the path, and what Nix once let in is not our error.
            deriver: row
                .deriver
                .and_then(|path| StorePath::from_absolute(&self.settings.store_dir, &path).ok()),
            signatures: (row.sigs.iter().flat_map(|sigs| sigs.split_whitespace()))
                .filter_map(|signature| signature.parse().ok())
                .collect(),
            ca: ca.transpose()?,
            realisations: Vec::new(),
        })
    }

    fn parse_path(&self, path: &str) -> Result<StorePath, StoreDbError> {
        StorePath::from_absolute(&self.settings.store_dir, path)
            .map_err(|source| value(path, "path", path, source))
    }

    fn texts(
        &self,
        tx: &Transaction<'_>,
        query: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<String>, StoreDbError> {
        let texts = || -> rusqlite::Result<_> {
            let mut statement = tx.prepare(query)?;
            let texts = statement.query_map(parameters, |row| row.get(0))?;
            texts.collect()
        };
        texts().map_err(|source| self.db.failed(source))
    }
}

/// A row of `ValidPaths` as it stands there.
struct PathRow {
    id: i64,
    path: String,
    hash: String,
    nar_size: Option<i64>,
    deriver: Option<String>,
    ca: Option<String>,
    sigs: Option<String>,
}

impl PathRow {
    /// In the order of [`PATH_COLUMNS`].
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            path: row.get(1)?,
            hash: row.get(2)?,
            nar_size: row.get(3)?,
            deriver: row.get(4)?,
            ca: row.get(5)?,
            sigs: row.get(6)?,
        })
    }
}

fn value(
    path: &str,
    column: &'static str,
    value: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreDbError {
    let (path, value) = (path.to_owned(), value.to_owned());
    StoreDbError::Value { path, column, value, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As long as a signature is.
    const SIG: &str =
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
    const A: &str = "00000000000000000000000000000000-a";
    const B: &str = "11111111111111111111111111111111-b";
    const HASH: &str = "sha256:30c8d44787a3ccf44d375d51a93e7e05f38f4b7d6be68641d6e1a0678c6b4113";

    /// A store with the paths A and B; B refers to A and to itself.
    fn store(change: &str) -> (tempfile::TempDir, StoreSettings) {
        let root = tempfile::tempdir().unwrap();
        let settings = StoreSettings::new(root.path().to_str(), |_| None).unwrap();
        fs::create_dir_all(settings.state_dir.join("db")).unwrap();
        fs::write(settings.database().with_file_name("schema"), "10").unwrap();
        let schema = include_str!("../../tests/data/nix/schema.sql");
        let connection = rusqlite::Connection::open(settings.database()).unwrap();
        connection.execute_batch(schema).unwrap();
        for path in [A, B] {
            let row = (format!("/nix/store/{path}"), HASH);
            connection
                .execute(
                    "INSERT INTO ValidPaths(path, hash, registrationTime, narSize)
                     VALUES (?1, ?2, 0, 112)",
                    row,
                )
                .unwrap();
        }
        connection.execute_batch("INSERT INTO Refs VALUES (2, 1), (2, 2)").unwrap();
        connection.execute_batch(change).unwrap();
        (root, settings)
    }

    fn paths(names: &[&str]) -> Vec<StorePath> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_closure_comes_breadth_first_with_each_path_once() {
        let (_root, settings) = store("");
        let db = StoreDb::open(&settings).unwrap();
        let closure = db.closure(&paths(&[B, B])).unwrap();
        assert_eq!(closure.iter().map(|p| p.path.clone()).collect::<Vec<_>>(), paths(&[B, A]));
        assert_eq!(closure[0].references, paths(&[A, B]));
        assert_eq!(closure[1].nar_hash, HASH.parse().unwrap());
        assert_eq!((closure[1].nar_size, &closure[1].references), (112, &Vec::new()));
        assert_eq!(db.closure(&paths(&[A])).unwrap().len(), 1);
        assert_eq!(db.closure(&[]).unwrap(), []);
        assert_eq!(db.all_paths().unwrap(), paths(&[A, B]));
    }

    #[test]
    fn a_root_that_is_not_in_the_store_is_named() {
        let (_root, settings) = store("DELETE FROM Refs; DELETE FROM ValidPaths WHERE id = 1");
        let db = StoreDb::open(&settings).unwrap();
        let error = db.closure(&paths(&[B, A])).unwrap_err();
        assert_eq!(error.to_string(), format!("/nix/store/{A} is not in the store"));
        assert!(matches!(db.outputs_of(&paths(&[A])[0]), Err(StoreDbError::NotValid { .. })));
    }

    #[test]
    fn what_is_not_needed_may_be_nonsense() {
        let (_root, settings) = store(&format!(
            "UPDATE ValidPaths SET deriver = 'unknown-deriver', sigs = 'x k:{SIG}  ', ca = ''
                 WHERE id = 1;
                 UPDATE ValidPaths
                 SET deriver = '/other/store/00000000000000000000000000000000-d.drv' WHERE id = 2"
        ));
        let closure = StoreDb::open(&settings).unwrap().closure(&paths(&[A, B])).unwrap();
        assert!(closure.iter().all(|path| path.deriver.is_none() && path.ca.is_none()));
        assert_eq!(closure[0].signatures, [format!("k:{SIG}").parse().unwrap()]);
    }

    #[test]
    fn what_is_needed_and_unreadable_is_named_with_its_path() {
        for (change, what) in [
            ("SET hash = 'sha256:zz'", "hash"),
            ("SET hash = 'sha1:0ssi1wpaf7plaswqqjwigppsg5fyh99vdlb9kzl7c9lng89ndq1i'", "hash"),
            ("SET ca = 'fixed:x'", "ca"),
            ("SET narSize = NULL", "NAR size"),
            ("SET narSize = 0", "NAR size"),
            ("SET path = '/nix/store/' || substr(path, 12) || ' '", "path"),
        ] {
            let (_root, settings) = store(&format!("UPDATE ValidPaths {change} WHERE id = 1"));
            let error = StoreDb::open(&settings).unwrap().closure(&paths(&[B])).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(what) && error.contains(A), "{change}: {error}");
        }
    }

    #[test]
    fn only_outputs_that_are_in_the_store_count() {
        let (_root, settings) = store(&format!(
            "INSERT INTO DerivationOutputs VALUES (2, 'out', '/nix/store/{A}'),
             (2, 'dev', '/nix/store/22222222222222222222222222222222-c')"
        ));
        let db = StoreDb::open(&settings).unwrap();
        assert_eq!(db.outputs_of(&paths(&[B])[0]).unwrap(), paths(&[A]));
        assert_eq!(db.outputs_of(&paths(&[A])[0]).unwrap(), []);
    }

    #[test]
    fn another_layout_and_no_database_are_told_apart() {
        let (_root, settings) = store("");
        fs::write(settings.database().with_file_name("schema"), "11\n").unwrap();
        let error = StoreDb::open(&settings).unwrap_err();
        assert!(matches!(&error, StoreDbError::Schema { found, .. } if found == "11"));
        assert!(!error.is_out_of_reach());
        fs::remove_file(settings.database().with_file_name("schema")).unwrap();
        assert!(matches!(StoreDb::open(&settings), Err(StoreDbError::Look { .. })));
        fs::remove_file(settings.database()).unwrap();
        let error = StoreDb::open(&settings).unwrap_err();
        assert!(matches!(error, StoreDbError::Missing { .. }) && error.is_out_of_reach());
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_and_no_reason_to_ask_nix() {
        let (_root, settings) = store("");
        fs::write(settings.database(), "this is no database, but long enough for a header")
            .unwrap();
        let error = StoreDb::open(&settings).unwrap_err();
        assert!(matches!(error, StoreDbError::Query { .. }) && !error.is_out_of_reach());
    }
}
