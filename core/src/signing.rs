//! Signing keys as `nix key generate-secret` writes them: what nix-narinfo's verifying half lacks.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signer as _, SigningKey as Ed25519Key};
use nix_narinfo::{NixSignature, TrustedPublicKey};

use crate::wire::text_serde;

/// An Ed25519 key that signs narinfos, with the name by which readers know it. Its `Debug` shows
/// the name only.
pub struct SigningKey {
    name: String,
    key: Ed25519Key,
}

/// A signature as a narinfo has it: `<key name>:<base64>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature(NixSignature);

/// Characters of the base64 of an Ed25519 signature.
const SIGNATURE_CHARS: usize = 88;

/// Characters of a key's name: there is no limit in Nix, and no reason for more.
const MAX_KEY_NAME: usize = 256;

/// Why a text is no signing key. Never contains the text.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// There is no `:`, or no name before it.
    #[error("it is not of the form <name>:<base64>, as `nix key generate-secret` writes it")]
    Form,
    /// The part after the name is not base64.
    #[error("the part after the name is not base64")]
    Base64,
    /// A public key has 32 bytes, a secret one 64.
    #[error("the key has {0} bytes, a secret key has 64; a public key cannot sign")]
    Length(usize),
    /// The two halves do not belong together.
    #[error("its public half does not belong to its secret half")]
    Halves,
}

/// Why a text is no signature.
#[derive(Debug, thiserror::Error)]
pub enum SignatureTextError {
    /// Not `<name>:<base64>`.
    #[error("{0:?} is not a signature of the form <name>:<base64>")]
    Form(String),
}

impl SigningKey {
    /// The name by which readers know the key, such as `cache.example.org-1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What readers put into `trusted-public-keys`: `<name>:<base64>`.
    #[must_use]
    pub fn public_key(&self) -> String {
        format!("{}:{}", self.name, BASE64.encode(self.key.verifying_key().as_bytes()))
    }

    /// A key made from 32 random bytes, which the caller brings.
    ///
    /// # Errors
    /// When the name cannot be one.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, SigningKeyError> {
        if !valid_key_name(name) {
            return Err(SigningKeyError::Form);
        }
        Ok(Self { name: name.to_owned(), key: Ed25519Key::from_bytes(seed) })
    }

    /// The secret key as `nix key generate-secret` writes it: for the file that it is kept in.
    #[must_use]
    pub fn secret_text(&self) -> String {
        format!("{}:{}", self.name, BASE64.encode(self.key.to_keypair_bytes()))
    }

    /// Signs a fingerprint. Ed25519 is deterministic: equal fingerprints get equal signatures.
    #[must_use]
    pub fn sign(&self, fingerprint: &str) -> Signature {
        let signature = self.key.sign(fingerprint.as_bytes());
        Signature(NixSignature {
            key_name: self.name.clone(),
            encoded: BASE64.encode(signature.to_bytes()),
        })
    }
}

impl FromStr for SigningKey {
    type Err = SigningKeyError;

    fn from_str(text: &str) -> Result<Self, SigningKeyError> {
        let (name, encoded) = text.trim().split_once(':').ok_or(SigningKeyError::Form)?;
        if !valid_key_name(name) {
            return Err(SigningKeyError::Form);
        }
        let bytes = BASE64.decode(encoded).map_err(|_| SigningKeyError::Base64)?;
        let pair: [u8; 64] =
            bytes.as_slice().try_into().map_err(|_| SigningKeyError::Length(bytes.len()))?;
        let key = Ed25519Key::from_keypair_bytes(&pair).map_err(|_| SigningKeyError::Halves)?;
        Ok(Self { name: name.to_owned(), key })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether a key can have this name: it stands in a line of a narinfo before a colon.
#[must_use]
pub fn valid_key_name(name: &str) -> bool {
    (1..=MAX_KEY_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

/// A public key as `trusted-public-keys` has it, such as `cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkb…`.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    text: String,
    key: TrustedPublicKey,
}

/// Why a text is no public key.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a public key of the form <name>:<base64>, all of it")]
pub struct PublicKeyError {
    text: String,
    #[source]
    source: nix_narinfo::KeyError,
}

impl PublicKey {
    /// Whether a signature of `fingerprint` is by this key.
    #[must_use]
    pub fn verifies(&self, fingerprint: &str, signature: &Signature) -> bool {
        signature.0.key_name == self.key.name
            && matches!(
                signature.0.verify(fingerprint.as_bytes(), std::slice::from_ref(&self.key)),
                Ok(true)
            )
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        match TrustedPublicKey::parse(text) {
            Ok(key) => Ok(Self { text: text.to_owned(), key }),
            Err(source) => Err(PublicKeyError { text: text.to_owned(), source }),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_serde!(PublicKey);

impl Signature {
    /// The name of the key that made it.
    #[must_use]
    pub fn key_name(&self) -> &str {
        &self.0.key_name
    }

    pub(crate) fn into_nix(self) -> NixSignature {
        self.0
    }

    pub(crate) fn from_nix(signature: NixSignature) -> Self {
        Self(signature)
    }
}

impl FromStr for Signature {
    type Err = SignatureTextError;

    fn from_str(text: &str) -> Result<Self, SignatureTextError> {
        NixSignature::parse(text)
            .ok()
            .filter(|signature| valid_key_name(&signature.key_name))
            // Ed25519 is the only kind that Nix knows: 64 bytes.
            .filter(|signature| signature.encoded.len() == SIGNATURE_CHARS)
            .map(Self)
            .ok_or_else(|| SignatureTextError::Form(text.to_owned()))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

text_serde!(Signature);

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "binary-cache-test-1:P3IA3lXplG9zVhw1oOFQ/5m/7r2uzWCnRGV3H7szHJ+whgW7HfXV47bf6lD0iCACdanLNPCi+O2VtvUvLPVt5g==";

    #[test]
    fn a_key_of_nix_is_read_and_its_public_half_is_the_one_nix_shows() {
        let key: SigningKey = format!("{SECRET}\n").parse().unwrap();
        assert_eq!(
            key.public_key(),
            "binary-cache-test-1:sIYFux311eO23+pQ9IggAnWpyzTwovjtlbb1Lyz1beY="
        );
        assert_eq!(key.secret_text(), SECRET);
        assert!(!format!("{key:?}").contains("P3IA"), "the secret is in its Debug");
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        for text in [
            "",
            "noname",
            ":P3IA",
            "a:!!!",
            "a:P3IA",
            "a b:P3IA",
            "binary-cache-test-1:sIYFux311eO23+pQ9IggAnWpyzTwovjtlbb1Lyz1beY=",
            &SECRET.replace("whgW7", "whgW8"),
        ] {
            let error = text.parse::<SigningKey>().unwrap_err().to_string();
            assert!(!error.contains("P3IA") && !error.contains("sIYF"), "{error}");
        }
    }

    #[test]
    fn a_signature_verifies_with_the_key_that_made_it_and_no_other() {
        let key: SigningKey = SECRET.parse().unwrap();
        let public: PublicKey = key.public_key().parse().unwrap();
        let signature = key.sign("1;text");
        assert!(public.verifies("1;text", &signature));
        assert!(!public.verifies("1;other", &signature));
        let other = SigningKey::from_seed("binary-cache-test-1", &[7; 32]).unwrap();
        assert!(!public.verifies("1;text", &other.sign("1;text")));
        let renamed = signature.to_string().replace("test-1", "test-2");
        assert!(!public.verifies("1;text", &renamed.parse().unwrap()));
        for text in ["", "cache.nixos.org-1", "a:b", SECRET] {
            assert!(text.parse::<PublicKey>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_signature_cannot_smuggle_a_line_into_a_narinfo() {
        let good = format!("cache-1:{}==", "A".repeat(86));
        assert!(good.parse::<Signature>().is_ok());
        let cases = [
            "",
            "cache-1",
            "cache-1:",
            "cache-1:AAAA",
            &good.replace("ca", "c\na"),
            &good.replace("AA=", "A\n="),
            &good.replace("cache-1", ""),
            &good.replace("cache-1", &"k".repeat(257)),
        ];
        for text in cases {
            assert!(text.parse::<Signature>().is_err(), "{text:?} was taken");
        }
    }
}
