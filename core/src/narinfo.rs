//! A narinfo from validated path info. nix-narinfo writes and fingerprints it; what is decided
//! here is what goes in.

use std::{collections::BTreeSet, fmt, str::FromStr};

use nix_derivation::{CAHash, NixHash};
use nix_narinfo::{Compression, NarInfo};

use crate::{
    hash::{FileHash, NarHash},
    object_key::ObjectKey,
    signing::{Signature, SigningKey},
    store_path::{StoreDir, StorePath, StorePathHash},
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

/// What signatures of a path sign: `1;<path>;<NarHash>;<NarSize>;<references, sorted>`. `None`: no narinfo
/// can say it.
#[must_use]
pub fn fingerprint<'a>(
    store_dir: &StoreDir,
    path: &StorePath,
    nar_hash: NarHash,
    nar_size: u64,
    references: impl Iterator<Item = &'a StorePath>,
) -> Option<String> {
    // Where the NAR lies is not signed.
    let (path, url) = (path.as_nix().clone(), "nar".to_owned());
    NarInfo::builder_in(store_dir.clone(), path, url, nar_hash.to_nix(), nar_size)
        .references(references.map(|path| path.as_nix().clone()))
        .build()
        .ok()
        .map(|narinfo| narinfo.fingerprint(store_dir))
}

/// What a narinfo that lies in the bucket says of where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundNarInfo {
    /// The store path that it describes.
    pub path: StorePath,
    /// Where its NAR lies.
    pub nar: ObjectKey,
    /// Hash of the compressed NAR.
    pub file_hash: FileHash,
    /// Bytes of the compressed NAR.
    pub file_size: u64,
    /// Hash of the NAR.
    pub nar_hash: NarHash,
    /// Its references, sorted, each once, itself left out.
    pub references: Vec<StorePathHash>,
    /// What built it.
    pub deriver: Option<StorePath>,
}

/// Why a narinfo in the bucket is none that this cache wrote.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// No narinfo.
    #[error("it is no narinfo")]
    Parse(#[from] nix_narinfo::ParseError),
    /// Written by something else, such as `nix copy`.
    #[error("{0} is not what niks3 writes")]
    Foreign(&'static str),
}

impl FoundNarInfo {
    /// Reads one.
    ///
    /// # Errors
    /// When it is none, or lacks what every narinfo of ours has.
    pub fn parse(store_dir: &StoreDir, text: &str) -> Result<Self, FoundError> {
        // Nix takes such a line end for a part of the field's name, and so misses the field.
        if text.contains('\r') || text.contains("\n\n") {
            return Err(FoundError::Foreign("an empty line or a carriage return"));
        }
        let found = NarInfo::parse_in(store_dir, text.as_bytes())?;
        let path = StorePath::from_nix(found.store_path().clone());
        let nar: ObjectKey =
            found.url().parse().map_err(|_| FoundError::Foreign("the name of its NAR"))?;
        let ObjectKey::Nar(nar_hash, _) = nar else {
            return Err(FoundError::Foreign("the name of its NAR"));
        };
        if nar_hash.to_nix() != *found.nar_hash() {
            return Err(FoundError::Foreign("a NAR that is named for another hash"));
        }
        let file_hash = match found.file_hash() {
            Some(NixHash::Sha256(hash)) => FileHash::new(*hash),
            _ => return Err(FoundError::Foreign("its FileHash")),
        };
        let file_size = found.file_size().ok_or(FoundError::Foreign("its FileSize"))?;
        let references = found.references().iter().cloned().map(StorePath::from_nix);
        // By their hashes, as the bucket knows them: two names with one hash are one object.
        let references: BTreeSet<_> = references.map(|to| to.hash()).collect();
        let references = references.into_iter().filter(|to| *to != path.hash()).collect();
        let deriver = found.deriver().cloned().map(StorePath::from_nix);
        Ok(Self { path, nar, file_hash, file_size, nar_hash, references, deriver })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_composed_is_read_again() {
        let path = |name: &str| format!("26xbg1ndr7hbcncrlf9nhx5is2b25d13-{name}").parse().unwrap();
        let other: StorePath = "11xbg1ndr7hbcncrlf9nhx5is2b25d13-lib".parse().unwrap();
        let hash = "sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h";
        let nar = format!("nar/{}-{}.nar.zst", &hash[7..], "a".repeat(24));
        let info = PathInfo {
            path: path("hello"),
            nar: nar.parse().unwrap(),
            file_hash: hash.parse().unwrap(),
            file_size: 7,
            nar_hash: hash.parse().unwrap(),
            nar_size: 112,
            references: vec![other.clone(), path("hello")],
            deriver: None,
            signatures: Vec::new(),
            ca: None,
        };
        let store_dir = StoreDir::default();
        let text = info.clone().compose(&store_dir, &[]).unwrap();
        let found = FoundNarInfo::parse(&store_dir, &text).unwrap();
        assert_eq!((found.path, found.nar, found.file_size), (info.path, info.nar, 7));
        assert_eq!(found.references, [other.hash()]);
        // Found by fuzzing: its own hash with another name, and a hash with two names.
        let twice = text.replace("-lib", "-lib 11xbg1ndr7hbcncrlf9nhx5is2b25d13-other");
        let twice = twice.replace("d13-hello\nURL", "d13-renamed\nURL");
        let found = FoundNarInfo::parse(&store_dir, &twice).unwrap();
        assert_eq!((found.path, found.references), (path("renamed"), vec![other.hash()]));
        for foreign in [
            text.replace("References", "\r\nReferences"),
            text.replace("References", "\nReferences"),
            text.replace('\n', "\r\n"),
            text.replace(&nar, "nar/x.nar.xz"),
            text.replace("FileSize: 7\n", ""),
            "no narinfo".to_owned(),
        ] {
            assert!(FoundNarInfo::parse(&store_dir, &foreign).is_err(), "{foreign}");
        }
    }
}
