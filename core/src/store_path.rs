//! Store paths: on nix-derivation's types, with what those lack (a hash of its own, serde).
//!
//! On the wire and in the database a store path is its base name, `<hash>-<name>`: the store
//! directory is a property of the whole cache and is said once.

use std::{fmt, str::FromStr};

use nix_derivation::nixbase32;
pub use nix_derivation::{StoreDir, store_path::Error as StorePathError};

use crate::wire::text_serde;

/// Characters of the hash part of a store path.
const HASH_CHARS: usize = 32;

/// The hash part of a store path's base name: 20 bytes, 32 characters of Nix's base 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePathHash([u8; 20]);

/// A store path without its store directory: `26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12`.
///
/// Its name obeys Nix's rules (at most 211 of `A-Za-z0-9+-._?=`), so it can stand in a key of
/// the bucket and in a line of a narinfo.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(nix_derivation::StorePath);

impl StorePath {
    /// Parses `<store dir>/<hash>-<name>`.
    ///
    /// # Errors
    /// When the path does not lie directly in `store_dir`, or its base name is not a store path's.
    pub fn from_absolute(store_dir: &StoreDir, path: &str) -> Result<Self, StorePathError> {
        store_dir.parse_path(path.as_bytes()).map(Self)
    }

    /// The hash part.
    #[must_use]
    pub fn hash(&self) -> StorePathHash {
        StorePathHash(*self.0.digest())
    }

    /// The part after the hash, such as `hello-2.12`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Whether this is a derivation (`….drv`).
    #[must_use]
    pub fn is_derivation(&self) -> bool {
        self.0.is_derivation()
    }

    /// The whole path, such as `/nix/store/26xbg1nd…-hello-2.12`.
    #[must_use]
    pub fn absolute(&self, store_dir: &StoreDir) -> String {
        store_dir.render_path(&self.0)
    }

    pub(crate) fn from_nix(path: nix_derivation::StorePath) -> Self {
        Self(path)
    }

    pub(crate) fn as_nix(&self) -> &nix_derivation::StorePath {
        &self.0
    }
}

impl FromStr for StorePath {
    type Err = StorePathError;

    fn from_str(base_name: &str) -> Result<Self, Self::Err> {
        nix_derivation::StorePath::from_basename(base_name.as_bytes()).map(Self)
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_basename())
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StorePathHash {
    type Err = StorePathError;

    fn from_str(hash: &str) -> Result<Self, Self::Err> {
        if hash.len() != HASH_CHARS {
            return Err(StorePathError::MissingSeparator);
        }
        let digest = nixbase32::decode(hash.as_bytes())?;
        digest.try_into().map(Self).map_err(|_| StorePathError::MissingSeparator)
    }
}

impl fmt::Display for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&nixbase32::encode(&self.0))
    }
}

impl fmt::Debug for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_serde!(StorePath);
text_serde!(StorePathHash);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_path_survives_being_written_and_read() {
        let text = "26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12.1";
        let path: StorePath = text.parse().unwrap();
        assert_eq!(path.to_string(), text);
        assert_eq!(path.hash().to_string(), "26xbg1ndr7hbcncrlf9nhx5is2b25d13");
        assert_eq!(path.hash(), "26xbg1ndr7hbcncrlf9nhx5is2b25d13".parse().unwrap());
        let absolute = path.absolute(&StoreDir::default());
        assert_eq!(StorePath::from_absolute(&StoreDir::default(), &absolute).unwrap(), path);
    }

    #[test]
    fn what_could_climb_out_of_the_bucket_is_no_store_path() {
        for text in [
            "../../etc/passwd",
            "26xbg1ndr7hbcncrlf9nhx5is2b25d13",
            "26xbg1ndr7hbcncrlf9nhx5is2b25d13-",
            "26xbg1ndr7hbcncrlf9nhx5is2b25d13-..",
            "26xbg1ndr7hbcncrlf9nhx5is2b25d13-a/b",
            "26xbg1ndr7hbcncrlf9nhx5is2b25d13-a\nURL: x",
            // e, o, t and u are not in Nix's alphabet
            "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-hello",
        ] {
            assert!(text.parse::<StorePath>().is_err(), "{text:?} was taken");
        }
        for text in ["", "26xbg1ndr7hbcncrlf9nhx5is2b25d1", "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"] {
            assert!(text.parse::<StorePathHash>().is_err(), "{text:?} was taken");
        }
    }
}
