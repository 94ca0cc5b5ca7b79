//! Why a path was not packed, and what a person can do about it.

use std::{io, path::PathBuf};

use niks3_core::{hash::NarHash, store_path::StorePath};

/// A path whose files are not those that Nix registered.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is damaged: Nix recorded {recorded} ({recorded_bytes} bytes), its files hash to \
     {actual} ({actual_bytes} bytes)"
)]
pub struct Damaged {
    /// Which path.
    pub path: StorePath,
    /// The hash of the NAR in Nix's database.
    pub recorded: NarHash,
    /// Its size there.
    pub recorded_bytes: u64,
    /// The hash of the NAR as it is now.
    pub actual: NarHash,
    /// Its size now.
    pub actual_bytes: u64,
}

/// Why a path was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The files are not those that Nix registered.
    #[error(transparent)]
    Damaged(Box<Damaged>),
    /// Someone is writing to the store path.
    #[error("{file:?} changed while it was read")]
    Changed {
        /// Which file.
        file: PathBuf,
    },
    /// Not one of the three kinds that a NAR knows.
    #[error("{file:?} is {kind}, which no NAR can hold")]
    Unsupported {
        /// Which file.
        file: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The file system said no.
    #[error("cannot {what} {file:?}")]
    Read {
        /// Which file.
        file: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A tree that no NAR can hold: nested too deep, for one.
    #[error("cannot put {file:?} into a NAR")]
    Encode {
        /// Where.
        file: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Compressing, or keeping what is compressed.
    #[error("cannot keep the compressed NAR in memory or in {:?}", std::env::temp_dir())]
    Write {
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The caller wants it no more.
    #[error("cancelled")]
    Cancelled,
}

impl PackError {
    /// What a person can do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged(damaged) => Some(format!(
                "`nix-store --verify-path` shows it, `nix store repair` mends it: both take the whole \
                 path of {}",
                damaged.path
            )),
            Self::Changed { .. } => {
                Some("nothing should write to a store path: look what does".to_owned())
            }
            Self::Write { .. } => Some("TMPDIR names another folder for large NARs".to_owned()),
            Self::Unsupported { .. }
            | Self::Read { .. }
            | Self::Encode { .. }
            | Self::Cancelled => None,
        }
    }
}
