//! Nix's store as the client sees it: where it is, what is valid in it, what a person names.
//!
//! All of it blocks; call it where that is fine.

mod build_log;
mod conf;
mod daemon;
mod debug_info;
mod installable;
mod path_info_json;
mod read_only;
mod realisations;
mod root;
mod settings;
mod store_db;
mod temp_roots;

use niks3_core::{
    hash::NarHash, narinfo::ContentAddress, signing::Signature, store_path::StorePath,
    wire::PlannedRealisation,
};

pub use build_log::BuildLog;
pub use daemon::{NixCommand, NixCommandError};
pub use debug_info::build_ids;
pub use installable::{InstallableError, Want, resolve};
pub use path_info_json::{PathInfoError, parse as parse_path_info};
pub use root::resolve_root;
pub(crate) use settings::normalised;
pub use settings::{SettingsError, StoreSettings};
pub use store_db::{StoreDb, StoreDbError};
pub use temp_roots::TempRoots;

/// What Nix recorded of one valid store path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidPath {
    /// The path.
    pub path: StorePath,
    /// Hash of its NAR.
    pub nar_hash: NarHash,
    /// Bytes of its NAR, at least 1.
    pub nar_size: u64,
    /// What it refers to, sorted; itself too, where it does.
    pub references: Vec<StorePath>,
    /// What built it.
    pub deriver: Option<StorePath>,
    /// What content-addresses it.
    pub ca: Option<ContentAddress>,
    /// Signatures that it has.
    pub signatures: Vec<Signature>,
    /// The outputs of derivations that it is, in both layouts. Nothing where `nix` is asked instead of
    /// the database: it does not say.
    pub realisations: Vec<PlannedRealisation>,
}

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be read.
    #[error(transparent)]
    Database(#[from] StoreDbError),
    /// The database was out of reach, and `nix` could not help.
    #[error("{database}, and asking `nix` instead failed")]
    Nix {
        /// Why the database was out of reach.
        database: String,
        /// Why `nix` did not help.
        #[source]
        source: Box<NixCommandError>,
    },
}

impl StoreError {
    /// What a person can do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Database(error) => error.hint(),
            Self::Nix { source, .. } => source.hint(),
        }
    }
}

/// A Nix store: its database, or `nix` where the database is out of reach (a store that only the
/// daemon may look into).
#[derive(Clone, Debug)]
pub struct Store {
    settings: StoreSettings,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Database(StoreDb),
    /// With the reason why not the database.
    Nix(String),
}

impl Store {
    /// Opens the database, if it can be read.
    ///
    /// # Errors
    /// When it can be reached but not be used: locked, damaged, of another layout.
    pub fn open(settings: StoreSettings) -> Result<Self, StoreError> {
        let source = match StoreDb::open(&settings) {
            Ok(db) => Source::Database(db),
            Err(error) if error.is_out_of_reach() => Source::Nix(with_causes(&error)),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { settings, source })
    }

    /// Where it lies.
    #[must_use]
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// Why `nix` is asked instead of the database; nothing where the database is read.
    #[must_use]
    pub fn why_not_database(&self) -> Option<&str> {
        match &self.source {
            Source::Database(_) => None,
            Source::Nix(why) => Some(why),
        }
    }

    /// `roots` and all that they refer to, directly or not: breadth first, each path once, the
    /// roots in front.
    ///
    /// # Errors
    /// When a root is not in the store, or the store cannot be read.
    pub fn closure(&self, roots: &[StorePath]) -> Result<Vec<ValidPath>, StoreError> {
        self.ask(|db| db.closure(roots), |nix| nix.closure(roots))
    }

    /// Every path of the store, sorted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn all_paths(&self) -> Result<Vec<StorePath>, StoreError> {
        self.ask(StoreDb::all_paths, |nix| nix.all_paths())
    }

    /// The outputs of a derivation that are in the store.
    ///
    /// # Errors
    /// When the derivation itself is not in the store, or the store cannot be read.
    pub fn outputs_of(&self, derivation: &StorePath) -> Result<Vec<StorePath>, StoreError> {
        self.ask(|db| db.outputs_of(derivation), |nix| nix.outputs_of(derivation))
    }

    /// The `nix` program, set to this store.
    #[must_use]
    pub fn nix(&self) -> NixCommand<'_> {
        NixCommand::new(&self.settings)
    }

    fn ask<T>(
        &self,
        database: impl FnOnce(&StoreDb) -> Result<T, StoreDbError>,
        nix: impl FnOnce(&NixCommand<'_>) -> Result<T, NixCommandError>,
    ) -> Result<T, StoreError> {
        let why = match &self.source {
            Source::Database(db) => match database(db) {
                // It could be read a moment ago: a WAL has appeared that we may not use.
                Err(error) if error.is_out_of_reach() => with_causes(&error),
                answer => return Ok(answer?),
            },
            Source::Nix(why) => why.clone(),
        };
        nix(&self.nix()).map_err(|error| StoreError::Nix { database: why, source: Box::new(error) })
    }
}

/// An error and its causes in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(" ({error})"));
        cause = error.source();
    }
    text
}
