//! What Nix up to 2.34 hashes a derivation to where it names an output of it.
//!
//! It is the SHA-256 of the derivation's text with three changes: an input stands there as its own such
//! hash, the outputs' paths are left out, and so are the variables that hold them. A fixed output's
//! contents say all there is, whatever fetches them. As in `hashDerivationModulo` of Nix 2.34:
//! <https://github.com/NixOS/nix/blob/2.34.0/src/libstore/derivations.cc>

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nix_derivation::{ContentAddressMethod, Derivation as Parsed, InputDerivationHash, Output};
use sha2::{Digest as _, Sha256};

use crate::{
    hash::DerivationHash,
    realisation::OutputName,
    store_path::{StoreDir, StorePath},
};

/// A derivation as it stands in its `.drv` file.
#[derive(Debug)]
pub struct Derivation(Parsed);

/// Why a text is not the derivation that it should be, or has no hash.
#[derive(Debug, thiserror::Error)]
pub enum DerivationError {
    /// Not what Nix writes into a `.drv` file.
    #[error("it is no derivation")]
    Parse(#[from] nix_derivation::Error),
    /// A derivation's path follows from its text, so one of them was changed.
    #[error("its text is that of {0}")]
    OtherPath(StorePath),
    /// Impure, or with inputs that are known only after a build.
    #[error("{0} derivations have no realisations that others can use")]
    Kind(&'static str),
    /// The hash of an input was not given.
    #[error("the hash of its input {0} is not known")]
    Input(StorePath),
}

/// Whose outputs are left out of the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outputs {
    /// Nobody's: the derivation is an input of another one.
    Shown,
    /// Its own: the hash names them.
    Masked,
}

impl Derivation {
    /// Reads the file of the derivation `path`, and makes sure that it is this one's.
    ///
    /// # Errors
    /// When it is not, or is no derivation.
    pub fn parse(
        store_dir: &StoreDir,
        path: &StorePath,
        text: &[u8],
    ) -> Result<Self, DerivationError> {
        let name = path.name().strip_suffix(".drv").unwrap_or(path.name());
        let parsed = Parsed::from_aterm_bytes_in(text, name, store_dir.clone())?;
        let actual = StorePath::from_nix(parsed.drv_path()?);
        if actual != *path {
            return Err(DerivationError::OtherPath(actual));
        }
        Ok(Self(parsed))
    }

    /// The derivations whose hashes go into this one's.
    pub fn inputs(&self) -> impl Iterator<Item = StorePath> + '_ {
        let hashed = self.fixed_output().is_none();
        let inputs = self.0.input_derivations().keys().filter(move |_| hashed);
        inputs.map(|input| StorePath::from_nix(input.clone()))
    }

    /// Whether it has an output of this name.
    #[must_use]
    pub fn has_output(&self, output: &OutputName) -> bool {
        self.0.outputs().contains_key(&output.to_string())
    }

    /// What its outputs are named by. `inputs` has the [`hash_as_input`](Self::hash_as_input) of each
    /// of its inputs.
    ///
    /// # Errors
    /// When one is missing, or the derivation has no such hash.
    pub fn hash(
        &self,
        inputs: &HashMap<StorePath, DerivationHash>,
    ) -> Result<DerivationHash, DerivationError> {
        self.hash_modulo(inputs, Outputs::Masked)
    }

    /// What stands for it in the text of a derivation that it is an input of.
    ///
    /// # Errors
    /// As [`hash`](Self::hash).
    pub fn hash_as_input(
        &self,
        inputs: &HashMap<StorePath, DerivationHash>,
    ) -> Result<DerivationHash, DerivationError> {
        self.hash_modulo(inputs, Outputs::Shown)
    }

    fn hash_modulo(
        &self,
        inputs: &HashMap<StorePath, DerivationHash>,
        outputs: Outputs,
    ) -> Result<DerivationHash, DerivationError> {
        if self.fixed_output().is_some() {
            let fixed = self.0.hash_input_derivation_modulo(|_| InputDerivationHash::Deferred)?;
            let fixed = fixed.fixed_output_hash().ok_or(DerivationError::Kind("mixed"))?;
            return Ok(DerivationHash::new(fixed.into_bytes()));
        }
        let mut by_hash: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (path, input) in self.0.input_derivations() {
            if input.is_dynamic() {
                return Err(DerivationError::Kind("dynamic"));
            }
            let path = StorePath::from_nix(path.clone());
            let hash = inputs.get(&path).ok_or(DerivationError::Input(path))?;
            let hex = hash.to_string().split_off("sha256:".len());
            by_hash.entry(hex).or_default().extend(input.outputs().iter().map(String::as_str));
        }
        let text = self.text(&by_hash, outputs)?;
        Ok(DerivationHash::new(Sha256::digest(text).into()))
    }

    fn fixed_output(&self) -> Option<&Output> {
        self.0.outputs().values().find(|output| matches!(output, Output::Fixed { .. }))
    }

    /// The text as in a `.drv` file, with these inputs.
    fn text(
        &self,
        inputs: &BTreeMap<String, BTreeSet<&str>>,
        show: Outputs,
    ) -> Result<Vec<u8>, DerivationError> {
        let (parsed, store_dir) = (&self.0, self.0.store_dir());
        let outputs = parsed.outputs().iter().map(|(name, output)| {
            let (path, method) = match output {
                Output::InputAddressed { .. } if show == Outputs::Masked => Default::default(),
                Output::InputAddressed { path } => (store_dir.render_path(path), String::new()),
                Output::Floating { method, hash_algorithm } => {
                    (String::new(), format!("{}{hash_algorithm}", prefix(*method)))
                }
                Output::Deferred => Default::default(),
                Output::Fixed { .. } => return Err(DerivationError::Kind("mixed")),
                Output::Impure { .. } => return Err(DerivationError::Kind("impure")),
            };
            Ok(tuple([quoted(name), quoted(path), quoted(method), quoted("")]))
        });
        let inputs = inputs.iter().map(|(hash, outputs)| {
            Ok(tuple([quoted(hash), list(outputs.iter().map(|output| Ok(quoted(output))))?]))
        });
        let sources =
            parsed.input_sources().iter().map(|path| Ok(quoted(store_dir.render_path(path))));
        let json = parsed.structured_attrs().map(|attrs| ("__json", attrs.canonical_json()));
        let variables = parsed.environment().iter().map(|(name, value)| {
            let masked = show == Outputs::Masked && parsed.outputs().contains_key(name);
            (name.as_str(), if masked { &[][..] } else { value })
        });
        let variables: BTreeMap<&str, &[u8]> = variables.chain(json).collect();
        let variables =
            variables.into_iter().map(|(name, value)| Ok(tuple([quoted(name), quoted(value)])));
        let fields = tuple([
            list(outputs)?,
            list(inputs)?,
            list(sources)?,
            quoted(parsed.system()),
            quoted(parsed.builder()),
            list(parsed.arguments().iter().map(|argument| Ok(quoted(argument))))?,
            list(variables)?,
        ]);
        Ok([b"Derive", fields.as_slice()].concat())
    }
}

/// The name of the output that `path` is, if `derivation` built it: its name says so.
#[must_use]
pub fn output_name(derivation: &StorePath, path: &StorePath) -> Option<OutputName> {
    let name = derivation.name().strip_suffix(".drv")?;
    match path.name().strip_prefix(name)? {
        "" => "out".parse().ok(),
        rest => rest.strip_prefix('-')?.parse().ok(),
    }
}

/// How the way of hashing is written before the algorithm.
fn prefix(method: ContentAddressMethod) -> &'static str {
    match method {
        ContentAddressMethod::Flat => "",
        ContentAddressMethod::Nar => "r:",
        ContentAddressMethod::Text => "text:",
        ContentAddressMethod::Git => "git:",
    }
}

fn quoted(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in text.as_ref() {
        match byte {
            b'"' => quoted.extend(b"\\\""),
            b'\\' => quoted.extend(b"\\\\"),
            b'\n' => quoted.extend(b"\\n"),
            b'\r' => quoted.extend(b"\\r"),
            b'\t' => quoted.extend(b"\\t"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'"');
    quoted
}

fn tuple<const N: usize>(fields: [Vec<u8>; N]) -> Vec<u8> {
    [b"(", fields.join(&b',').as_slice(), b")"].concat()
}

fn list(
    items: impl Iterator<Item = Result<Vec<u8>, DerivationError>>,
) -> Result<Vec<u8>, DerivationError> {
    let items: Vec<Vec<u8>> = items.collect::<Result<_, _>>()?;
    Ok([b"[", items.join(&b',').as_slice(), b"]"].concat())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// The derivations of the fixture, as every Nix writes them.
    fn derivations() -> HashMap<StorePath, Derivation> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/nix/derivations");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let derivations = files.map(|file| {
            let path: StorePath = file.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let text = fs::read(&file).unwrap();
            let derivation = Derivation::parse(&StoreDir::default(), &path, &text).unwrap();
            (path, derivation)
        });
        derivations.collect()
    }

    fn as_inputs(
        derivations: &HashMap<StorePath, Derivation>,
        wanted: &Derivation,
    ) -> HashMap<StorePath, DerivationHash> {
        let hashed = wanted.inputs().map(|path| {
            let input = &derivations[&path];
            let hash = input.hash_as_input(&as_inputs(derivations, input)).unwrap();
            (path, hash)
        });
        hashed.collect()
    }

    /// The table `Realisations` of the samples: the same in 2.8, 2.26 and 2.34.
    #[test]
    fn a_derivation_hashes_to_what_nix_recorded_of_it() {
        let recorded = [
            (
                "cx7sh0w3w0878nbcdfa6rja2svhgx3aa",
                "604b6105cdae7db41217d3620c15845b4dd823ca638ceeb34f48995375426c92",
            ),
            (
                "lxdg207kf9wllgs2milkfxis9aanqgr0",
                "62e7d1be138d73e48a1509f9fd9dc6949e5f51b0c830bf610844975347ef730a",
            ),
            // Resolved, and as it was evaluated.
            (
                "w1jdz6lradmj5dgyxzyl1wlgk9w7fvrn",
                "32efd856dea1f74c67123b918b9b701a404c57edb0e340b0543311bbc10881ed",
            ),
            (
                "9q3xl3435nrqi5gwhdmcglc4bsvx2h3j",
                "eef6dacea71605e9ffdb40cf892c954bb2e34e08bb7f182215393c5ab2344a4a",
            ),
            (
                "wanbiw2bypwn2gqml4ncfl3jk6jvj9n9",
                "be940074f7ee69d4b6ee2d82dc0687bd2f58856ff3b8323a50c9ee39f2789d42",
            ),
            (
                "p5lvzap7zj3xxzf8da5r4q10a5fxhvfv",
                "85dd447d474cbcf48f5a06b6dffb2d008ec17d2d7afaac77840d3a682917ac12",
            ),
            (
                "j08vcidqbssklbp3nsjj85yair5xxjh1",
                "c6d0a2c33509b44fec87111fcc7f3ab87ea5fb77f18592f769373bee754c722e",
            ),
            (
                "2jmb311a0bm6wjavhvyx3kg2zvsn8nya",
                "e1ff57b7a64da31bc2a502b4a66db1ebdab5bfcceb546f4ac653d90486a94383",
            ),
            (
                "bbyx84lphk83012pffp91zaf7x5909vr",
                "599874b8c117d5a803593efc09eb3205097762f1626f01039991a47f45138604",
            ),
            (
                "iiw8cjbn92bqr9b06x1l9l1h2fsa28vp",
                "d6f23c6c928380757f2a83c249d04c12d196dd48e18f6726ffce5d0d3d05ff6a",
            ),
            (
                "1dpp2cn9ljc0yqdz1jrnn3ijfrjlzy0d",
                "7dad3d9f4d8a164be1cc5627a4e9766203ce74e5bc5b9fd55f918dd05485bb07",
            ),
            (
                "mgrnmw6j91fypvxy1s0qzz7b31rkns44",
                "a99b403f77c5444f7ac7ef52da6a23e40c97dc863ae607f191b3475e3be838f2",
            ),
            (
                "anlkgmwiq3bzy1f5q5hcpb6ydi3r2219",
                "04793a28b2ba615bae324464bbef40cc4fead3728c646e19799b629a02ceda53",
            ),
            (
                "f1kc8bcmq64vlq9na5pa0x69fji7rypq",
                "4a400bcefef058ec6b220302a0e347e97227ebeafcb317e0badb5cf93490ca92",
            ),
            (
                "gzgcypiybyvx9m48jrgmnq9qz0w8amhq",
                "4ae71dd90a5b81da97c42823937ea27015ab3eeba732906c26ed9f884e255727",
            ),
            (
                "pfb0nk0ssxh7yfcqq0r374cnszi522nj",
                "b2abfec7fd5d36ad55f428e87bebd01791eaa2735b017d4357964f982d5d14bd",
            ),
            (
                "05ij6biynr772q4qrvzz100rrrv4kql5",
                "85a027147fac8397d53a6c9b5521ddf47db83dd8991e6cfaa91ac39bdbf20d26",
            ),
        ];
        let derivations = derivations();
        let mut hashes: Vec<(String, String)> = derivations
            .iter()
            .map(|(path, derivation)| {
                let hash = derivation.hash(&as_inputs(&derivations, derivation)).unwrap();
                (path.hash().to_string(), hash.to_string())
            })
            .collect();
        let mut recorded =
            recorded.map(|(path, hash)| (path.to_owned(), format!("sha256:{hash}"))).to_vec();
        hashes.sort();
        recorded.sort();
        assert_eq!(hashes, recorded);
    }

    #[test]
    fn a_text_is_only_taken_for_the_derivation_that_it_is() {
        let (leaf, top) = ("cx7sh0w3w0878nbcdfa6rja2svhgx3aa-ca-leaf.drv", "ca-top.drv");
        let other = format!("{}-{top}", &leaf[..32]).parse().unwrap();
        let file = format!("{}/../tests/data/nix/derivations/{leaf}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read(file).unwrap();
        let parse =
            |path: &StorePath, text: &[u8]| Derivation::parse(&StoreDir::default(), path, text);
        let leaf: StorePath = leaf.parse().unwrap();
        assert!(parse(&leaf, &text).unwrap().has_output(&"out".parse().unwrap()));
        assert!(matches!(parse(&other, &text), Err(DerivationError::OtherPath(_))));
        assert!(matches!(parse(&leaf, &text[1..]), Err(DerivationError::Parse(_))));
        let changed = String::from_utf8(text).unwrap().replace("mkdir", "rmdir");
        assert!(matches!(parse(&leaf, changed.as_bytes()), Err(DerivationError::OtherPath(_))));
    }

    #[test]
    fn an_input_without_a_hash_is_named() {
        let derivations = derivations();
        let top = derivations.iter().find(|(path, _)| path.hash().to_string().starts_with("9q3x"));
        let error = top.unwrap().1.hash(&HashMap::new()).unwrap_err();
        assert!(error.to_string().contains("-ca-leaf.drv"), "{error}");
    }

    #[test]
    fn a_path_says_in_its_name_which_output_it_is() {
        let name = |derivation: &str, path: &str| {
            let of =
                |name: &str| format!("00000000000000000000000000000000-{name}").parse().unwrap();
            output_name(&of(derivation), &of(path)).map(|output| output.to_string())
        };
        assert_eq!(name("a-1.0.drv", "a-1.0").unwrap(), "out");
        assert_eq!(name("a-1.0.drv", "a-1.0-dev").unwrap(), "dev");
        for (derivation, path) in [("a.drv", "b"), ("a.drv", "ab"), ("a.drv", "a-"), ("a", "a")] {
            assert_eq!(name(derivation, path), None, "{derivation} {path}");
        }
    }
}
