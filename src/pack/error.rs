//! Why a path was not packed, and what a person can do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use niks3_core::{hash::NarHash, store_path::StorePath};
use rustix::io::Errno;

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
    /// The files make a NAR of another size than Nix registered.
    #[error(
        "{path} is damaged: Nix recorded a NAR of {recorded_bytes} bytes, its files make one of \
         {actual_bytes}"
    )]
    Resized {
        /// Which path.
        path: StorePath,
        /// Bytes of the NAR in Nix's database.
        recorded_bytes: u64,
        /// Bytes of the NAR now.
        actual_bytes: u64,
    },
    /// Someone is writing to the store path.
    #[error("{file:?} changed while it was read")]
    Changed {
        /// Which file.
        file: PathBuf,
    },
    /// It is not there, or not any more.
    #[error("{file:?} is gone")]
    Gone {
        /// Which file.
        file: PathBuf,
    },
    /// Two files of a folder that differ only in what the case hack has added.
    #[error("{one:?} and {other:?} have one name in a NAR: what differs is Nix's case hack")]
    Collision {
        /// One file.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Deeper than Nix reads. See `docs/decisions/nesting.md`.
    #[error("{file:?} lies in {most} folders, each in the next: Nix reads no NAR like that")]
    TooDeep {
        /// The first that is.
        file: PathBuf,
        /// At how many folders it ends.
        most: usize,
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
    /// What no NAR can hold: a name that the case hack leaves empty, for one.
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
    /// What `error` means, that a file was met with.
    pub(super) fn reading(file: &Path, what: &'static str, error: Errno) -> Self {
        let file = file.to_owned();
        match error {
            Errno::NOENT | Errno::STALE => Self::Gone { file },
            error => Self::Read { file, what, source: error.into() },
        }
    }

    /// What a person can do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged(damaged) => Some(mend(&damaged.path)),
            Self::Resized { path, .. } => Some(mend(path)),
            Self::Changed { .. } => Some(
                "nothing should write to a store path, but the garbage collection that deletes it: \
                 was there one meanwhile?"
                    .to_owned(),
            ),
            Self::Gone { .. } => Some(
                "was the store collected meanwhile? Build the path again with a link to it, which \
                 keeps it (`nix build --out-link`), and push that. If Nix still counts it as valid, \
                 `nix-store --repair-path` mends it"
                    .to_owned(),
            ),
            Self::Collision { .. } => Some(
                "if these are their real names, say `use-case-hack = false` in nix.conf".to_owned(),
            ),
            Self::TooDeep { .. } => {
                Some("Nix has had that limit since 2.34; --exclude leaves roots out".to_owned())
            }
            Self::Write { .. } => Some("TMPDIR names another folder for large NARs".to_owned()),
            Self::Unsupported { .. }
            | Self::Read { .. }
            | Self::Encode { .. }
            | Self::Cancelled => None,
        }
    }
}

fn mend(path: &StorePath) -> String {
    format!(
        "`nix-store --verify-path` shows it, `nix store repair` mends it: both take the whole path \
         of {path}"
    )
}
