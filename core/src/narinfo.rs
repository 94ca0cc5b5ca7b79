//! A narinfo from validated path info. nix-narinfo writes and fingerprints it; what is decided
//! here is what goes in.

use std::{collections::BTreeSet, fmt, str::FromStr};

use nix_derivation::CAHash;
use nix_narinfo::{Compression, NarInfo};

use crate::{
    hash::{FileHash, NarHash},
    object_key::ObjectKey,
    signing::{Signature, SigningKey},
    store_path::{StoreDir, StorePath},
    wire::text_serde,
};

/// What content-addresses a path, as Nix's database and narinfos spell it:
/// `fixed:r:sha256:…`, `text:sha256:…`.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentAddress(CAHash);

impl FromStr for ContentAddress {
    type Err = nix_derivation::hash::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        CAHash::parse(text).map(Self)
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_nix_string())
    }
}

impl fmt::Debug for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_serde!(ContentAddress);

/// All that a narinfo says, before it is signed.
#[derive(Clone, Debug)]
pub struct PathInfo {
    /// The store path that it describes.
    pub path: StorePath,
    /// Where its NAR lies; always zstd.
    pub nar: ObjectKey,
    /// Hash of the compressed NAR.
    pub file_hash: FileHash,
    /// Bytes of the compressed NAR.
    pub file_size: u64,
    /// Hash of the NAR.
    pub nar_hash: NarHash,
    /// Bytes of the NAR, at least 1.
    pub nar_size: u64,
    /// Its references, itself among them where it refers to itself.
    pub references: Vec<StorePath>,
    /// What built it.
    pub deriver: Option<StorePath>,
    /// Signatures that it has already.
    pub signatures: Vec<Signature>,
    /// What content-addresses it.
    pub ca: Option<ContentAddress>,
}

/// A path info that no narinfo can say.
#[derive(Debug, thiserror::Error)]
#[error("cannot compose the narinfo of {path}")]
pub struct ComposeError {
    path: StorePath,
    #[source]
    source: nix_narinfo::BuildError,
}

impl PathInfo {
    /// The text of the narinfo, in Nix's own order of fields, with a signature by each of `keys`
    /// beside those that the path has: sorted and each once, as Nix keeps them.
    ///
    /// # Errors
    /// When a value has no form in a narinfo, such as a NAR size of 0.
    pub fn compose(
        self,
        store_dir: &StoreDir,
        keys: &[SigningKey],
    ) -> Result<String, ComposeError> {
        let path = self.path;
        let compose = || {
            let builder = NarInfo::builder_in(
                store_dir.clone(),
                path.as_nix().clone(),
                self.nar.to_string(),
                self.nar_hash.to_nix(),
                self.nar_size,
            )
            .compression(Compression::Zstd)
            .file_hash(Some(self.file_hash.to_nix()))
            .file_size(Some(self.file_size))
            .references(self.references.iter().map(|path| path.as_nix().clone()))
            .deriver(self.deriver.as_ref().map(|path| path.as_nix().clone()))
            .content_address(self.ca.as_ref().map(|ca| ca.0.clone()));
            let fingerprint = builder.clone().build()?.fingerprint(store_dir);
            let mut signatures: BTreeSet<Signature> = self.signatures.into_iter().collect();
            signatures.extend(keys.iter().map(|key| key.sign(&fingerprint)));
            builder.signatures(signatures.into_iter().map(Signature::into_nix)).build()
        };
        match compose() {
            Ok(narinfo) => Ok(String::from_utf8_lossy(&narinfo.to_canonical_bytes()).into_owned()),
            Err(source) => Err(ComposeError { path, source }),
        }
    }
}
