//! Derivations as they lie in the store, and their hashes.

use std::{
    collections::HashMap,
    error::Error,
    fs::{self, File},
    io::{self, Read as _},
};

use niks3_core::{
    derivation::{Derivation, DerivationError},
    hash::DerivationHash,
    store_path::StorePath,
};
use tracing::debug;

use crate::nix::StoreSettings;

/// Bytes of a `.drv` file, at most: the largest that we know of have some 2 MB.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Why a derivation has no hash that we know.
#[derive(Debug, thiserror::Error)]
enum HashError {
    /// It is gone, or may not be read.
    #[error("cannot read {path}")]
    Read {
        path: StorePath,
        #[source]
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("cannot hash {path}")]
    Hash {
        path: StorePath,
        #[source]
        source: DerivationError,
    },
}

/// The derivations of one store.
pub(super) struct Derivations<'a> {
    settings: &'a StoreSettings,
    /// What was asked for: several outputs have the same one.
    hashes: HashMap<StorePath, Option<DerivationHash>>,
    /// Of those that are inputs of others, as such.
    as_inputs: HashMap<StorePath, DerivationHash>,
}

impl<'a> Derivations<'a> {
    pub(super) fn new(settings: &'a StoreSettings) -> Self {
        Self { settings, hashes: HashMap::new(), as_inputs: HashMap::new() }
    }

    /// What Nix up to 2.34 names the outputs of the derivation `path` by. `None`: it is not in the
    /// store any more, for one.
    pub(super) fn hash(&mut self, path: &StorePath) -> Option<DerivationHash> {
        if let Some(known) = self.hashes.get(path) {
            return *known;
        }
        let hash = match self.compute(path) {
            Ok(hash) => Some(hash),
            Err(error) => {
                debug!(error = &error as &dyn Error, "a derivation has no hash that we know");
                None
            }
        };
        self.hashes.insert(path.clone(), hash);
        hash
    }

    fn compute(&mut self, path: &StorePath) -> Result<DerivationHash, HashError> {
        let derivation = self.read(path)?;
        self.hash_inputs(&derivation)?;
        let hash = derivation.hash(&self.as_inputs);
        hash.map_err(|source| HashError::Hash { path: path.clone(), source })
    }

    /// Hashes all that `derivation` was made from. Without recursion: a chain of derivations may be
    /// thousands long.
    fn hash_inputs(&mut self, derivation: &Derivation) -> Result<(), HashError> {
        let mut waiting: Vec<(StorePath, Derivation)> = Vec::new();
        loop {
            // Deepest first: what waits is hashed when all that it was made from is.
            let next = waiting.last().map_or(derivation, |(_, input)| input);
            let missing = next.inputs().find(|path| !self.as_inputs.contains_key(path));
            if let Some(path) = missing {
                let input = self.read(&path)?;
                waiting.push((path, input));
                continue;
            }
            let Some((path, input)) = waiting.pop() else { return Ok(()) };
            let hash = input.hash_as_input(&self.as_inputs);
            let hash = hash.map_err(|source| HashError::Hash { path: path.clone(), source })?;
            self.as_inputs.insert(path, hash);
        }
    }

    fn read(&self, path: &StorePath) -> Result<Derivation, HashError> {
        let text = self.text(path);
        let text = text.map_err(|source| HashError::Read { path: path.clone(), source })?;
        Derivation::parse(&self.settings.store_dir, path, &text)
            .map_err(|source| HashError::Hash { path: path.clone(), source })
    }

    fn text(&self, path: &StorePath) -> io::Result<Vec<u8>> {
        let file = self.settings.real_path(path);
        // A pipe would keep us waiting.
        if !fs::symlink_metadata(&file)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut text = Vec::new();
        File::open(&file)?.take(MAX_BYTES + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
        }
        Ok(text)
    }
}
