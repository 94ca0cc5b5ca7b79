//! Hashes, one type for each thing that is hashed, and the checksums that a store compares bodies
//! with. Nix's are written as Nix writes them in a narinfo.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use md5::{Digest as _, Md5};
use nix_derivation::{HashAlgorithm, NixHash, nixbase32};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::wire::text_serde;

/// Why a text is not a SHA-256 hash.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Not any of the spellings that Nix knows.
    #[error("{text:?} is not a hash")]
    Malformed {
        /// What was read.
        text: String,
        /// What nix-derivation says.
        #[source]
        source: nix_derivation::hash::Error,
    },
    /// A hash, but of another algorithm.
    #[error("{text:?} is not a SHA-256 hash")]
    NotSha256 {
        /// What was read.
        text: String,
    },
}

macro_rules! sha256 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Prints as `sha256:<52 characters of Nix's base 32>`; reads all of Nix's spellings
        /// (base 32, base 16, `sha256-<base64>`).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From the 32 bytes of a SHA-256 digest.
            #[must_use]
            pub const fn new(digest: [u8; 32]) -> Self {
                Self(digest)
            }

            /// The digest.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The digest alone in Nix's base 32: 52 characters, without `sha256:`.
            #[must_use]
            pub fn nix32(&self) -> String {
                nixbase32::encode(&self.0)
            }

            pub(crate) fn to_nix(self) -> NixHash {
                NixHash::Sha256(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "sha256:{}", self.nix32())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = HashError;

            fn from_str(text: &str) -> Result<Self, HashError> {
                parse_sha256(text).map(Self)
            }
        }

        text_serde!($name);
    };
}

sha256! {
    /// SHA-256 of an uncompressed NAR: what Nix records of a store path.
    NarHash
}
sha256! {
    /// SHA-256 of a file as it lies in the bucket: of the compressed NAR.
    FileHash
}

/// What Nix up to 2.34 knows a derivation by where it names an output of it: SHA-256 of the derivation,
/// modulo what its inputs were built from. Prints as `sha256:<64 hexadecimal digits>`, and reads only that:
/// it is part of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DerivationHash([u8; 32]);

impl DerivationHash {
    /// From the 32 bytes of a SHA-256 digest.
    #[must_use]
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Display for DerivationHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DerivationHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DerivationHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let hash = parse_sha256(text).map(Self)?;
        if hash.to_string() == text {
            Ok(hash)
        } else {
            Err(HashError::NotSha256 { text: text.to_owned() })
        }
    }
}

text_serde!(DerivationHash);

/// The MD5 of a body: not for security, but to have a store refuse a body that was damaged on the
/// way. Prints as base64, as the `Content-MD5` header has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyMd5([u8; 16]);

impl BodyMd5 {
    /// From the 16 bytes of an MD5 digest.
    #[must_use]
    pub const fn new(digest: [u8; 16]) -> Self {
        Self(digest)
    }

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for BodyMd5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for BodyMd5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not the base64 of 16 bytes.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not the base64 of an MD5 digest")]
pub struct Md5Error(String);

impl FromStr for BodyMd5 {
    type Err = Md5Error;

    fn from_str(text: &str) -> Result<Self, Md5Error> {
        let bytes = BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| Md5Error(text.to_owned()))
    }
}

text_serde!(BodyMd5);

/// What a store compares a body with, so that it refuses one that was damaged on the way. It also
/// says which body a presigned URL is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyChecksum {
    /// `Content-MD5`, which every S3 server knows.
    Md5(BodyMd5),
    /// `x-amz-checksum-sha256`: of a compressed NAR its FileHash, so no further hash is needed.
    Sha256(FileHash),
}

/// Which of them the cache's S3 server is asked to check. A setting of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumAlgorithm {
    /// `Content-MD5`
    #[default]
    Md5,
    /// `x-amz-checksum-sha256`
    Sha256,
}

impl ChecksumAlgorithm {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl BodyChecksum {
    /// That of `body`.
    #[must_use]
    pub fn of(algorithm: ChecksumAlgorithm, body: &[u8]) -> Self {
        match algorithm {
            ChecksumAlgorithm::Md5 => Self::Md5(BodyMd5(Md5::digest(body).into())),
            ChecksumAlgorithm::Sha256 => Self::Sha256(FileHash(Sha256::digest(body).into())),
        }
    }

    /// Name, in lower case, and value of the header that carries it.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>
    #[must_use]
    pub fn header(&self) -> (&'static str, String) {
        match self {
            Self::Md5(md5) => ("content-md5", md5.to_string()),
            Self::Sha256(sha256) => ("x-amz-checksum-sha256", BASE64.encode(sha256.as_bytes())),
        }
    }

    /// The digest: 16 or 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Md5(md5) => md5.as_bytes(),
            Self::Sha256(sha256) => sha256.as_bytes(),
        }
    }

    /// Which one it is.
    #[must_use]
    pub fn algorithm(&self) -> ChecksumAlgorithm {
        match self {
            Self::Md5(_) => ChecksumAlgorithm::Md5,
            Self::Sha256(_) => ChecksumAlgorithm::Sha256,
        }
    }
}

fn parse_sha256(text: &str) -> Result<[u8; 32], HashError> {
    let hash = NixHash::parse(text)
        .map_err(|source| HashError::Malformed { text: text.to_owned(), source })?;
    match hash {
        NixHash::Sha256(digest) => Ok(digest),
        other => {
            debug_assert!(other.algorithm() != HashAlgorithm::Sha256);
            Err(HashError::NotSha256 { text: text.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_hash_is_the_same_hash() {
        let nix32 = "sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h";
        let sri = "sha256-MMjUR4ejzPRNN11RqT5+BfOPS31r5oZB1uGgZ4xrQRM=";
        let base16 = "sha256:30c8d44787a3ccf44d375d51a93e7e05f38f4b7d6be68641d6e1a0678c6b4113";
        let hash: NarHash = nix32.parse().unwrap();
        assert_eq!(hash, sri.parse().unwrap());
        assert_eq!(hash, base16.parse().unwrap());
        assert_eq!(hash.to_string(), nix32);
        assert_eq!(format!("sha256:{}", hash.nix32()), nix32);
    }

    #[test]
    fn wrong_alphabets_lengths_and_algorithms_are_refused() {
        for text in [
            "",
            "sha256:",
            "04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h",
            "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
            "sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1",
            "sha1:0ssi1wpaf7plaswqqjwigppsg5fyh99vdlb9kzl7c9lng89ndq1i",
            "sha256:../../../../../../../../../../../../../../../../../etc",
        ] {
            assert!(text.parse::<NarHash>().is_err(), "{text:?} was taken");
        }
    }
}
