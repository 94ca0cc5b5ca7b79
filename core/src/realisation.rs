//! Realisations: which store path an output of a derivation is. Nix knows two layouts of them.
//!
//! Up to Nix 2.34 an output is named by the hash of its derivation and the realisation lies at
//! `realisations/sha256:<hex>!<output>.doi`; from 2.35 on by the derivation itself, and it lies at
//! `build-trace-v2/<derivation>/<output>.doi`. Each is signed over another fingerprint.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use nix_derivation::DrvOutput;
use nix_narinfo::UnkeyedRealisation;
use serde::{Deserialize, Serialize};

use crate::{
    hash::DerivationHash,
    object_key::ObjectKey,
    signing::{Signature, SigningKey},
    store_path::{StorePath, StorePathError},
    wire::text_serde,
};

/// Characters of an output's name, at most: those of a store path's name, which it is a part of.
const MAX_OUTPUT_NAME: usize = 211;

/// The name of a derivation's output, such as `out` or `dev`: what a store path's name may have, so
/// that it can stand in a key of the bucket.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputName(String);

/// Which output of which derivation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputId {
    /// As Nix up to 2.34 names it: `sha256:<hex>!<output>`.
    Hashed(DerivationHash, OutputName),
    /// As Nix from 2.35 on names it: `<derivation>^<output>`, the derivation a resolved one.
    Derived(StorePath, OutputName),
}

/// Why a text names no output of a derivation, or is no realisation.
#[derive(Debug, thiserror::Error)]
pub enum RealisationError {
    /// Not of one of the two forms.
    #[error("{0:?} is neither sha256:<hex>!<output> nor <derivation>^<output>")]
    Form(String),
    /// The name of the output.
    #[error("{0:?} cannot be the name of an output")]
    OutputName(String),
    /// The derivation's hash.
    #[error("it has no valid hash of a derivation")]
    Hash(#[from] crate::hash::HashError),
    /// The derivation, or the path that it is realised by.
    #[error("it has no valid store path")]
    Path(#[from] StorePathError),
    /// Something else than a derivation.
    #[error("{0} is no derivation")]
    NoDerivation(StorePath),
    /// Not the JSON that Nix writes.
    #[error("it is no realisation")]
    Json(#[from] serde_json::Error),
    /// The same, of the newer layout.
    #[error("it is no realisation")]
    Trace(#[from] nix_narinfo::RealisationParseError),
}

impl FromStr for OutputName {
    type Err = RealisationError;

    fn from_str(name: &str) -> Result<Self, RealisationError> {
        let char = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
        let fits = (1..=MAX_OUTPUT_NAME).contains(&name.len())
            && name.bytes().all(char)
            && !name.starts_with('.');
        if fits {
            Ok(Self(name.to_owned()))
        } else {
            Err(RealisationError::OutputName(name.to_owned()))
        }
    }
}

impl fmt::Display for OutputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OutputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for OutputId {
    type Err = RealisationError;

    fn from_str(text: &str) -> Result<Self, RealisationError> {
        // The first that is met: neither sign can stand in a name.
        if let Some((hash, output)) = text.split_once('!') {
            return Ok(Self::Hashed(hash.parse()?, output.parse()?));
        }
        let form = || RealisationError::Form(text.to_owned());
        let (derivation, output) = text.split_once('^').ok_or_else(form)?;
        let derivation: StorePath = derivation.parse()?;
        if !derivation.is_derivation() {
            return Err(RealisationError::NoDerivation(derivation));
        }
        Ok(Self::Derived(derivation, output.parse()?))
    }
}

impl fmt::Display for OutputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hashed(hash, output) => write!(f, "{hash}!{output}"),
            Self::Derived(derivation, output) => write!(f, "{derivation}^{output}"),
        }
    }
}

impl fmt::Debug for OutputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_serde!(OutputName);
text_serde!(OutputId);

impl OutputId {
    /// Where the realisation lies in the bucket.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Hashed(hash, output) => ObjectKey::Realisation(*hash, output.clone()),
            Self::Derived(derivation, output) => {
                ObjectKey::BuildTrace(derivation.clone(), output.clone())
            }
        }
    }

    /// Whose realisation has this key.
    #[must_use]
    pub fn of_key(key: &ObjectKey) -> Option<Self> {
        match key {
            ObjectKey::Realisation(hash, output) => Some(Self::Hashed(*hash, output.clone())),
            ObjectKey::BuildTrace(derivation, output) => {
                Some(Self::Derived(derivation.clone(), output.clone()))
            }
            _ => None,
        }
    }
}

/// That an output is a store path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realisation {
    /// Which output.
    pub id: OutputId,
    /// What it is.
    pub path: StorePath,
    /// The outputs that it was built with and refers to, and what they are. Nix 2.34 writes none,
    /// and the newer layout has no room for any.
    pub dependencies: BTreeMap<OutputId, StorePath>,
    /// Signatures that it has already.
    pub signatures: BTreeSet<Signature>,
}

/// The older layout, its fields in Nix's order: that of their names.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hashed {
    #[serde(default)]
    dependent_realisations: BTreeMap<OutputId, StorePath>,
    id: OutputId,
    out_path: StorePath,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signatures: Option<BTreeSet<Signature>>,
}

impl Realisation {
    /// The text of the `.doi` file, with a signature by each of `keys` beside those that it has:
    /// sorted and each once, as Nix keeps them.
    #[must_use]
    pub fn compose(&self, keys: &[SigningKey]) -> String {
        let fingerprint = self.fingerprint();
        let mut signatures = self.signatures.clone();
        signatures.extend(keys.iter().map(|key| key.sign(&fingerprint)));
        match &self.id {
            OutputId::Hashed(..) => self.hashed_json(Some(signatures)),
            OutputId::Derived(..) => {
                let signed = UnkeyedRealisation::new(self.path.as_nix().clone())
                    .with_signatures(signatures.into_iter().map(Signature::into_nix))
                    .expect("a signature that was read is one");
                String::from_utf8_lossy(&signed.to_canonical_bytes()).into_owned()
            }
        }
    }

    /// What signatures of it sign.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        match &self.id {
            OutputId::Hashed(..) => self.hashed_json(None),
            OutputId::Derived(derivation, output) => {
                let id = DrvOutput::new(derivation.as_nix().clone(), output.0.clone());
                UnkeyedRealisation::new(self.path.as_nix().clone()).fingerprint(&id)
            }
        }
    }

    fn hashed_json(&self, signatures: Option<BTreeSet<Signature>>) -> String {
        let hashed = Hashed {
            dependent_realisations: self.dependencies.clone(),
            id: self.id.clone(),
            out_path: self.path.clone(),
            signatures,
        };
        serde_json::to_string(&hashed).expect("names and signatures have a form in JSON")
    }

    /// Reads the `.doi` file of `id`.
    ///
    /// # Errors
    /// When it is none, or another output's.
    pub fn parse(id: &OutputId, text: &str) -> Result<Self, RealisationError> {
        match id {
            OutputId::Hashed(..) => {
                let read: Hashed = serde_json::from_str(text)?;
                if read.id != *id {
                    return Err(RealisationError::Form(read.id.to_string()));
                }
                Ok(Self {
                    id: read.id,
                    path: read.out_path,
                    dependencies: read.dependent_realisations,
                    signatures: read.signatures.unwrap_or_default(),
                })
            }
            OutputId::Derived(..) => {
                let read = UnkeyedRealisation::parse(text.as_bytes())?;
                Ok(Self {
                    id: id.clone(),
                    path: StorePath::from_nix(read.out_path().clone()),
                    dependencies: BTreeMap::new(),
                    signatures: read
                        .signatures()
                        .iter()
                        .cloned()
                        .map(Signature::from_nix)
                        .collect(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHED: &str = r#"{"dependentRealisations":{"sha256:eef6dacea71605e9ffdb40cf892c954bb2e34e08bb7f182215393c5ab2344a4a!out":"gr49bqdy1hdd36m4zn9rcz4cm1vjkms4-ca-top"},"id":"sha256:4ae71dd90a5b81da97c42823937ea27015ab3eeba732906c26ed9f884e255727!out","outPath":"n7k34zbp8gxfhp20r4zmbjkfzv0klgg9-on-ca","signatures":["binary-cache-test-1:2b/CAMI0VIXitCgL0etD2dxplTlOZqTP2SdAdnSGsNbuf9aXxwwv6E3OGYxUW2s5AJZwsa+BWFSgIBCaBwUzCA=="]}"#;

    fn id(text: &str) -> OutputId {
        text.parse().unwrap()
    }

    #[test]
    fn an_output_is_named_in_nixs_two_ways() {
        let hashed = "sha256:4ae71dd90a5b81da97c42823937ea27015ab3eeba732906c26ed9f884e255727!out";
        let derived = "n7k34zbp8gxfhp20r4zmbjkfzv0klgg9-on-ca.drv^dev";
        assert_eq!(id(hashed).to_string(), hashed);
        assert_eq!(id(hashed).key().to_string(), format!("realisations/{hashed}.doi"));
        assert_eq!(id(derived).to_string(), derived);
        assert_eq!(
            id(derived).key().to_string(),
            "build-trace-v2/n7k34zbp8gxfhp20r4zmbjkfzv0klgg9-on-ca.drv/dev.doi"
        );
        for text in [
            "",
            "out",
            "sha256:4ae7!out",
            &hashed.replace("!out", "!"),
            &hashed.replace("!out", "!../out"),
            &hashed.replace("!out", "!o/t"),
            &hashed.replace("4ae7", "4AE7"),
            &derived.replace(".drv", ""),
            &derived.replace("^dev", "^.."),
        ] {
            assert!(text.parse::<OutputId>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn the_older_layout_is_written_as_nix_2_26_wrote_it() {
        let of = id("sha256:4ae71dd90a5b81da97c42823937ea27015ab3eeba732906c26ed9f884e255727!out");
        let read = Realisation::parse(&of, HASHED).unwrap();
        assert_eq!(read.compose(&[]), HASHED);
        let key = "binary-cache-test-1:P3IA3lXplG9zVhw1oOFQ/5m/7r2uzWCnRGV3H7szHJ+whgW7HfXV47bf6lD0iCACdanLNPCi+O2VtvUvLPVt5g==";
        let key: SigningKey = key.parse().unwrap();
        // Signed by the same key over the same fingerprint: nothing is added.
        assert_eq!(read.compose(&[key]), HASHED);
        let other =
            id("sha256:5ae71dd90a5b81da97c42823937ea27015ab3eeba732906c26ed9f884e255727!out");
        assert!(Realisation::parse(&other, HASHED).is_err());
    }

    #[test]
    fn the_newer_layout_is_what_its_documentation_says() {
        let of = id("w1jdz6lradmj5dgyxzyl1wlgk9w7fvrn-ca-top.drv^out");
        let path: StorePath = "gr49bqdy1hdd36m4zn9rcz4cm1vjkms4-ca-top".parse().unwrap();
        let (dependencies, signatures) = (BTreeMap::new(), BTreeSet::new());
        let realisation = Realisation { id: of.clone(), path, dependencies, signatures };
        assert_eq!(
            realisation.fingerprint(),
            concat!(
                r#"{"key":{"drvPath":"w1jdz6lradmj5dgyxzyl1wlgk9w7fvrn-ca-top.drv","#,
                r#""outputName":"out"},"#,
                r#""value":{"outPath":"gr49bqdy1hdd36m4zn9rcz4cm1vjkms4-ca-top"}}"#
            )
        );
        let key = SigningKey::from_seed("k-1", &[7; 32]).unwrap();
        let text = realisation.compose(std::slice::from_ref(&key));
        let signature = key.sign(&realisation.fingerprint());
        let sig = signature.to_string()[4..].to_owned();
        assert_eq!(
            text,
            format!(
                r#"{{"outPath":"gr49bqdy1hdd36m4zn9rcz4cm1vjkms4-ca-top","signatures":[{{"keyName":"k-1","sig":"{sig}"}}]}}"#
            )
        );
        let read = Realisation::parse(&of, &text).unwrap();
        assert_eq!(read.signatures, BTreeSet::from([signature]));
        assert_eq!(read.compose(&[key]), text);
    }
}
