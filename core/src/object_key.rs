//! Every name that an object may have in the bucket.

use std::{fmt, str::FromStr};

use crate::{
    debug_info::BuildId,
    hash::{DerivationHash, NarHash},
    pin_name::PinName,
    realisation::OutputName,
    store_path::{StorePath, StorePathError, StorePathHash},
    wire::text_serde,
};

/// Characters of a random part: 120 bits.
const RANDOM_CHARS: usize = 24;
const RANDOM_ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// A key of the bucket. A new kind of object does not compile until each `match` knows it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// `nix-cache-info`
    CacheInfo,
    /// `<hash>.narinfo`: the metadata of one store path.
    NarInfo(StorePathHash),
    /// `nar/<NarHash>-<random>.nar.zst`: a compressed NAR. The random part makes the key the
    /// property of one upload.
    Nar(NarHash, RandomPart),
    /// `<hash>.ls`: the listing of a store path's NAR.
    Listing(StorePathHash),
    /// `pins/<name>`: the store path that is pinned.
    Pin(PinName),
    /// `generation/<n>-<random>`: a collection took place, the database knows of it.
    Generation(u64, RandomPart),
    /// `log/<drv base name>`: the build log of a derivation.
    Log(StorePath),
    /// `realisations/sha256:<hex>!<output>.doi`: see [`crate::realisation`].
    Realisation(DerivationHash, OutputName),
    /// `build-trace-v2/<drv base name>/<output>.doi`: the same as Nix from 2.35 on reads it.
    BuildTrace(StorePath, OutputName),
    /// `debuginfo/<build id>.debug`: in which NAR a debug file lies.
    DebugInfo(BuildId),
}

/// What kinds of objects there are, as the database numbers them. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum ObjectKind {
    /// [`ObjectKey::CacheInfo`]; has no row.
    CacheInfo = 0,
    /// [`ObjectKey::NarInfo`]
    NarInfo = 1,
    /// [`ObjectKey::Nar`]
    Nar = 2,
    /// [`ObjectKey::Listing`]
    Listing = 3,
    /// [`ObjectKey::Pin`]; has no row.
    Pin = 4,
    /// [`ObjectKey::Generation`]; has no row.
    Generation = 5,
    /// [`ObjectKey::Log`]
    Log = 6,
    /// [`ObjectKey::Realisation`]
    Realisation = 7,
    /// [`ObjectKey::BuildTrace`]
    BuildTrace = 8,
    /// [`ObjectKey::DebugInfo`]
    DebugInfo = 9,
}

/// What makes a name nobody else's: 24 characters of Nix's base 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RandomPart([u8; RANDOM_CHARS]);

impl RandomPart {
    /// From random bytes; the caller brings the randomness.
    #[must_use]
    pub fn from_random(bytes: [u8; RANDOM_CHARS]) -> Self {
        Self(bytes.map(|byte| RANDOM_ALPHABET[usize::from(byte % 32)]))
    }
}

impl fmt::Display for RandomPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| fmt::Write::write_char(f, char::from(*byte)))
    }
}

impl FromStr for RandomPart {
    type Err = ObjectKeyError;

    fn from_str(text: &str) -> Result<Self, ObjectKeyError> {
        let chars = text.as_bytes().try_into().ok();
        chars
            .filter(|chars: &[u8; RANDOM_CHARS]| {
                chars.iter().all(|char| RANDOM_ALPHABET.contains(char))
            })
            .map(Self)
            .ok_or_else(|| ObjectKeyError::Random(text.to_owned()))
    }
}

/// Why a text is no key of ours.
#[derive(Debug, thiserror::Error)]
pub enum ObjectKeyError {
    /// No kind of object is named like that.
    #[error("{0:?} is not the key of anything in a binary cache")]
    Unknown(String),
    /// Not 24 characters of Nix's base 32.
    #[error("{0:?} is not a random part of ours")]
    Random(String),
    /// The kind is known, the hash in it is not one.
    #[error("{key:?} has no valid hash")]
    Hash {
        /// What was read.
        key: String,
        /// What is wrong with its hash.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ObjectKey {
    /// Which kind of object this is.
    #[must_use]
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::CacheInfo => ObjectKind::CacheInfo,
            Self::NarInfo(_) => ObjectKind::NarInfo,
            Self::Nar(..) => ObjectKind::Nar,
            Self::Listing(_) => ObjectKind::Listing,
            Self::Pin(_) => ObjectKind::Pin,
            Self::Generation(..) => ObjectKind::Generation,
            Self::Log(_) => ObjectKind::Log,
            Self::Realisation(..) => ObjectKind::Realisation,
            Self::BuildTrace(..) => ObjectKind::BuildTrace,
            Self::DebugInfo(_) => ObjectKind::DebugInfo,
        }
    }

    /// The content type that Nix itself sends for such an object.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::CacheInfo => "text/x-nix-cache-info",
            Self::NarInfo(_) => "text/x-nix-narinfo",
            Self::Nar(..) => "application/x-nix-nar",
            Self::Listing(_)
            | Self::Realisation(..)
            | Self::BuildTrace(..)
            | Self::DebugInfo(_) => "application/json",
            Self::Log(_) => "text/plain; charset=utf-8",
            Self::Pin(_) | Self::Generation(..) => "text/plain",
        }
    }

    /// The keys of all NARs of one NarHash lie from the first text up to, not including, the
    /// second, in byte order.
    #[must_use]
    pub fn nar_range(nar_hash: &NarHash) -> (String, String) {
        // '.' is the byte after '-'.
        (format!("nar/{}-", nar_hash.nix32()), format!("nar/{}.", nar_hash.nix32()))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CacheInfo => f.write_str("nix-cache-info"),
            Self::NarInfo(hash) => write!(f, "{hash}.narinfo"),
            Self::Nar(hash, suffix) => write!(f, "nar/{}-{suffix}.nar.zst", hash.nix32()),
            Self::Listing(hash) => write!(f, "{hash}.ls"),
            Self::Pin(name) => write!(f, "pins/{name}"),
            Self::Generation(number, random) => write!(f, "generation/{number}-{random}"),
            Self::Log(derivation) => write!(f, "log/{derivation}"),
            Self::Realisation(hash, output) => write!(f, "realisations/{hash}!{output}.doi"),
            Self::BuildTrace(derivation, output) => {
                write!(f, "build-trace-v2/{derivation}/{output}.doi")
            }
            Self::DebugInfo(id) => write!(f, "debuginfo/{id}.debug"),
        }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ObjectKey {
    type Err = ObjectKeyError;

    fn from_str(key: &str) -> Result<Self, ObjectKeyError> {
        let unknown = || ObjectKeyError::Unknown(key.to_owned());
        let path_hash = |hash: &str| {
            hash.parse().map_err(|source: StorePathError| ObjectKeyError::Hash {
                key: key.to_owned(),
                source: source.into(),
            })
        };
        if key == "nix-cache-info" {
            return Ok(Self::CacheInfo);
        }
        // Before what goes by its ending: a pin may be called `main.ls`.
        if let Some(name) = key.strip_prefix("pins/") {
            return name.parse().map(Self::Pin).map_err(|_| unknown());
        }
        if let Some(hash) = key.strip_suffix(".narinfo") {
            return path_hash(hash).map(Self::NarInfo);
        }
        if let Some(hash) = key.strip_suffix(".ls") {
            return path_hash(hash).map(Self::Listing);
        }
        if let Some(name) = key.strip_prefix("generation/") {
            let (number, random) = name.split_once('-').ok_or_else(unknown)?;
            let number = number.parse().map_err(|_| unknown())?;
            let read = Self::Generation(number, random.parse()?);
            // One spelling of the number.
            return if read.to_string() == key { Ok(read) } else { Err(unknown()) };
        }
        if let Some(derivation) = key.strip_prefix("log/") {
            return read_derivation(derivation).map(Self::Log).ok_or_else(unknown);
        }
        if let Some(id) = key.strip_prefix("debuginfo/").and_then(|k| k.strip_suffix(".debug")) {
            return id.parse().map(Self::DebugInfo).map_err(|_| unknown());
        }
        if let Some(output) = key.strip_prefix("realisations/").and_then(|k| k.strip_suffix(".doi"))
        {
            let (hash, name) = output.split_once('!').ok_or_else(unknown)?;
            let read = hash.parse().ok().zip(name.parse().ok()).ok_or_else(unknown)?;
            return Ok(Self::Realisation(read.0, read.1));
        }
        if let Some(output) =
            key.strip_prefix("build-trace-v2/").and_then(|k| k.strip_suffix(".doi"))
        {
            let (derivation, name) = output.split_once('/').ok_or_else(unknown)?;
            let derivation = read_derivation(derivation).ok_or_else(unknown)?;
            return name
                .parse()
                .map(|name| Self::BuildTrace(derivation, name))
                .map_err(|_| unknown());
        }
        let nar = key.strip_prefix("nar/").and_then(|k| k.strip_suffix(".nar.zst"));
        let (hash, random) = nar.and_then(|k| k.split_once('-')).ok_or_else(unknown)?;
        let hash = format!("sha256:{hash}").parse().map_err(|source: crate::hash::HashError| {
            ObjectKeyError::Hash { key: key.to_owned(), source: source.into() }
        })?;
        let key_read = Self::Nar(hash, random.parse().map_err(|_| unknown())?);
        // Base 16 has room for other spellings of the hash; a key has one.
        if key_read.to_string() == key { Ok(key_read) } else { Err(unknown()) }
    }
}

fn read_derivation(name: &str) -> Option<StorePath> {
    name.parse().ok().filter(StorePath::is_derivation)
}

text_serde!(ObjectKey);

#[cfg(test)]
mod tests {
    use super::*;

    fn nar() -> ObjectKey {
        let hash = "sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h".parse().unwrap();
        ObjectKey::Nar(hash, RandomPart::from_random(std::array::from_fn(|i| 97 + i as u8 * 5)))
    }

    #[test]
    fn a_key_survives_being_written_and_read() {
        let hash: StorePathHash = "26xbg1ndr7hbcncrlf9nhx5is2b25d13".parse().unwrap();
        let ObjectKey::Nar(_, random) = nar() else { unreachable!() };
        for key in [
            ObjectKey::CacheInfo,
            ObjectKey::NarInfo(hash),
            ObjectKey::Listing(hash),
            nar(),
            ObjectKey::Pin("main".parse().unwrap()),
            // Found by fuzzing.
            ObjectKey::Pin("main.ls".parse().unwrap()),
            ObjectKey::Pin("26xbg1ndr7hbcncrlf9nhx5is2b25d13.narinfo".parse().unwrap()),
            ObjectKey::Generation(7, random),
            ObjectKey::Log("26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello.drv".parse().unwrap()),
            ObjectKey::Realisation(DerivationHash::new([7; 32]), "out".parse().unwrap()),
            ObjectKey::BuildTrace(
                "26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello.drv".parse().unwrap(),
                "dev".parse().unwrap(),
            ),
            ObjectKey::DebugInfo("ab".repeat(20).parse().unwrap()),
        ] {
            assert_eq!(key.to_string().parse::<ObjectKey>().unwrap(), key);
        }
        assert_eq!(
            ObjectKey::NarInfo(hash).to_string(),
            "26xbg1ndr7hbcncrlf9nhx5is2b25d13.narinfo"
        );
    }

    #[test]
    fn all_nars_of_a_hash_lie_in_its_range() {
        let ObjectKey::Nar(hash, _) = nar() else { unreachable!() };
        let (from, to) = ObjectKey::nar_range(&hash);
        let key = nar().to_string();
        assert!(from <= key && key < to);
    }

    #[test]
    fn what_is_no_key_of_ours_is_refused() {
        let nar = nar().to_string();
        for key in [
            "",
            "index.html",
            "../26xbg1ndr7hbcncrlf9nhx5is2b25d13.narinfo",
            "a/../26xbg1ndr7hbcncrlf9nhx5is2b25d13.ls",
            "nar/../../x.nar.zst",
            "pins/",
            "pins/../x",
            "generation/7",
            "log/",
            "log/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello",
            "log/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello.drv/x.drv",
            "debuginfo/ab.debug",
            "realisations/sha256:07!out.doi",
            "build-trace-v2/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello.drv/../out.doi",
            "build-trace-v2/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello.drv/.doi",
            &format!("generation/07-{}", &nar[57..81]),
            &nar.replace(".zst", ""),
            &nar.replace("nar/", "nar//"),
            &nar.replace(".nar.zst", "0.nar.zst"),
            "nar/04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h-UPPERCASEUPPERCASEUPPER.nar.zst",
        ] {
            assert!(key.parse::<ObjectKey>().is_err(), "{key:?} was taken");
        }
    }
}
