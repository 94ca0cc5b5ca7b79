//! What `nix path-info --json` prints, in the shapes that it has had.
//!
//! | written by | shape |
//! | --- | --- |
//! | Nix up to 2.18, Lix | a list of objects with `path`; missing: `"valid": false` |
//! | Nix 2.19 to 2.34 | an object by store path; missing: null |
//! | `--json-format 2` and later | `{"info": {<base name>: …}, "storeDir": …, "version": 2}` |

use std::collections::BTreeMap;

use niks3_core::store_path::{StoreDir, StorePath};
use serde::Deserialize;
use serde_json::Value;

use super::ValidPath;

/// Why the output was not understood.
#[derive(Debug, thiserror::Error)]
pub enum PathInfoError {
    /// Not JSON.
    #[error("it is not JSON")]
    Json(#[source] serde_json::Error),
    /// JSON of none of the known shapes.
    #[error("it is JSON of an unknown shape: neither a list nor an object of path infos")]
    Shape,
    /// Of another store directory than ours.
    #[error("it is about the store directory {theirs}, not {ours}")]
    StoreDir {
        /// What was asked about.
        ours: String,
        /// What the answer is about.
        theirs: String,
    },
    /// Never built, or collected as garbage.
    #[error("{path} is not in the store")]
    NotValid {
        /// The path as Nix names it.
        path: String,
    },
    /// One path's entry is not as it should be.
    #[error("what it says about {path} has an unknown shape")]
    Entry {
        /// The path as Nix names it.
        path: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A value that cannot be what it should be.
    #[error("it has an unreadable {field} for {path}: {value:?}")]
    Value {
        /// The path as Nix names it.
        path: String,
        /// Which field.
        field: &'static str,
        /// What is there.
        value: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    nar_hash: String,
    nar_size: u64,
    references: Vec<String>,
    #[serde(default)]
    deriver: Option<String>,
    #[serde(default)]
    ca: Option<Ca>,
    #[serde(default)]
    signatures: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ca {
    Text(String),
    Parts { method: String, hash: String },
}

impl Ca {
    /// As the database spells it. The hash may stay as it is: every spelling is read.
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts { method, hash } => match method.as_str() {
                "nar" => format!("fixed:r:{hash}"),
                "flat" => format!("fixed:{hash}"),
                "git" => format!("fixed:git:{hash}"),
                method => format!("{method}:{hash}"),
            },
        }
    }
}

/// Reads the output of `nix path-info --json`, in the order in which it comes.
///
/// # Errors
/// When a path is missing in the store, or the output is not as one of the known versions of Nix
/// writes it.
pub fn parse(json: &[u8], store_dir: &StoreDir) -> Result<Vec<ValidPath>, PathInfoError> {
    match serde_json::from_slice(json).map_err(PathInfoError::Json)? {
        Value::Array(entries) => {
            entries.into_iter().map(|entry| listed(entry, store_dir)).collect()
        }
        Value::Object(mut object) => {
            if let Some(Value::Object(info)) = object.remove("info") {
                if let Some(theirs) = object.get("storeDir").and_then(Value::as_str)
                    && theirs != store_dir.as_str()
                {
                    let (ours, theirs) = (store_dir.to_string(), theirs.to_owned());
                    return Err(PathInfoError::StoreDir { ours, theirs });
                }
                object = info;
            }
            object.into_iter().map(|(path, entry)| keyed(path, entry, store_dir)).collect()
        }
        _ => Err(PathInfoError::Shape),
    }
}

fn listed(entry: Value, store_dir: &StoreDir) -> Result<ValidPath, PathInfoError> {
    let path = entry.get("path").and_then(Value::as_str).ok_or(PathInfoError::Shape)?.to_owned();
    if entry.get("valid") == Some(&Value::Bool(false)) {
        return Err(PathInfoError::NotValid { path });
    }
    keyed(path, entry, store_dir)
}

fn keyed(path: String, entry: Value, store_dir: &StoreDir) -> Result<ValidPath, PathInfoError> {
    if entry.is_null() {
        return Err(PathInfoError::NotValid { path });
    }
    let entry = match serde_json::from_value::<Entry>(entry) {
        Ok(entry) => entry,
        Err(source) => return Err(PathInfoError::Entry { path, source }),
    };
    let unreadable = |field, value: &str| {
        let (path, value) = (path.clone(), value.to_owned());
        PathInfoError::Value { path, field, value }
    };
    let path_in =
        |field, text: &str| parse_path(text, store_dir).ok_or_else(|| unreadable(field, text));
    if entry.nar_size == 0 {
        return Err(unreadable("narSize", "0"));
    }
    let mut references = entry
        .references
        .iter()
        .map(|reference| path_in("references", reference))
        .collect::<Result<Vec<_>, _>>()?;
    references.sort();
    let ca = entry.ca.map(Ca::text).filter(|ca| !ca.is_empty());
    Ok(ValidPath {
        path: path_in("path", &path)?,
        nar_hash: entry.nar_hash.parse().map_err(|_| unreadable("narHash", &entry.nar_hash))?,
        nar_size: entry.nar_size,
        references,
        // Neither is needed to use the path, and what Nix once let in is not our error.
        deriver: entry.deriver.and_then(|deriver| parse_path(&deriver, store_dir)),
        signatures: (entry.signatures.iter().flatten().filter_map(signature_text))
            .filter_map(|signature| signature.parse().ok())
            .collect(),
        ca: ca.map(|ca| ca.parse().map_err(|_| unreadable("ca", &ca))).transpose()?,
        realisations: Vec::new(),
    })
}

/// A store path, absolute or as its base name.
fn parse_path(text: &str, store_dir: &StoreDir) -> Option<StorePath> {
    if text.starts_with('/') {
        StorePath::from_absolute(store_dir, text).ok()
    } else {
        text.parse().ok()
    }
}

fn signature_text(signature: &Value) -> Option<String> {
    match signature {
        Value::String(text) => Some(text.clone()),
        // As the versions to come write it.
        Value::Object(parts) => {
            let part = |name| parts.get(name).and_then(Value::as_str);
            Some(format!("{}:{}", part("keyName")?, part("sig")?))
        }
        _ => None,
    }
}

/// The paths of `found` that `roots` need, in the order of [`Store::closure`](super::Store):
/// breadth first, the roots in front. `Err` is a path that is missing.
pub(super) fn breadth_first(
    roots: &[StorePath],
    found: Vec<ValidPath>,
) -> Result<Vec<ValidPath>, StorePath> {
    let mut rest: BTreeMap<StorePath, Option<ValidPath>> =
        found.into_iter().map(|path| (path.path.clone(), Some(path))).collect();
    let mut closure: Vec<ValidPath> = Vec::with_capacity(rest.len());
    let mut take = |path: &StorePath, closure: &mut Vec<ValidPath>| match rest.get_mut(path) {
        Some(entry) => {
            closure.extend(entry.take());
            Ok(())
        }
        None => Err(path.clone()),
    };
    roots.iter().try_for_each(|root| take(root, &mut closure))?;
    let mut next = 0;
    while let Some(path) = closure.get(next) {
        let references = path.references.clone();
        references.iter().try_for_each(|path| take(path, &mut closure))?;
        next += 1;
    }
    Ok(closure)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As long as a signature is.
    const SIG: &str =
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
    const HASH: &str = "sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h";
    const A: &str = "00000000000000000000000000000000-a";
    const B: &str = "11111111111111111111111111111111-b";

    fn parsed(json: &str) -> Result<Vec<ValidPath>, PathInfoError> {
        parse(json.as_bytes(), &StoreDir::default())
    }

    fn path(name: &str, references: &[&str]) -> ValidPath {
        ValidPath {
            path: name.parse().unwrap(),
            nar_hash: HASH.parse().unwrap(),
            nar_size: 112,
            references: references.iter().map(|name| name.parse().unwrap()).collect(),
            deriver: None,
            ca: None,
            signatures: Vec::new(),
            realisations: Vec::new(),
        }
    }

    #[test]
    fn lix_and_old_nix_print_a_list() {
        let json = format!(
            r#"[{{"path":"/nix/store/{B}","narHash":"{HASH}","narSize":112,"valid":true,
            "references":["/nix/store/{B}","/nix/store/{A}"],"deriver":"unknown-deriver",
            "signatures":["nonsense"],"ca":""}}]"#
        );
        assert_eq!(parsed(&json).unwrap(), [path(B, &[A, B])]);
    }

    #[test]
    fn a_content_address_in_parts_is_the_same_as_in_one_text() {
        let sri = "sha256-MMjUR4ejzPRNN11RqT5+BfOPS31r5oZB1uGgZ4xrQRM=";
        for (method, text) in
            [("nar", "fixed:r:"), ("flat", "fixed:"), ("text", "text:"), ("git", "fixed:git:")]
        {
            let json = format!(
                r#"{{"info":{{"{A}":{{"narHash":"{sri}","narSize":112,"references":[],
                "ca":{{"method":"{method}","hash":"{sri}"}},
                "signatures":[{{"keyName":"k","sig":"{SIG}"}}]}}}},"version":3}}"#
            );
            let mut expected = path(A, &[]);
            expected.ca = Some(format!("{text}{HASH}").parse().unwrap());
            expected.signatures = vec![format!("k:{SIG}").parse().unwrap()];
            assert_eq!(parsed(&json).unwrap(), [expected], "{method}");
        }
    }

    #[test]
    fn a_missing_path_is_named_in_every_shape() {
        for json in [
            format!(r#"[{{"path":"/nix/store/{A}","valid":false}}]"#),
            format!(r#"{{"/nix/store/{A}":null}}"#),
            format!(r#"{{"info":{{"{A}":null}},"storeDir":"/nix/store","version":2}}"#),
        ] {
            let error = parsed(&json).unwrap_err();
            assert!(matches!(&error, PathInfoError::NotValid { path } if path.ends_with(A)));
        }
    }

    #[test]
    fn what_cannot_be_trusted_is_refused_with_the_path_and_the_field() {
        let entry = |change: &str| {
            let mut entry: Value = serde_json::from_str(&format!(
                r#"{{"narHash":"{HASH}","narSize":112,"references":[]}}"#
            ))
            .unwrap();
            let change: BTreeMap<String, Value> = serde_json::from_str(change).unwrap();
            entry.as_object_mut().unwrap().extend(change);
            format!(r#"{{"/nix/store/{A}":{entry}}}"#)
        };
        assert!(parsed(&entry("{}")).is_ok());
        for (change, field) in [
            (r#"{"narHash":"sha1-xx"}"#, "narHash"),
            (r#"{"narSize":0}"#, "narSize"),
            (r#"{"references":["/other/store/00000000000000000000000000000000-a"]}"#, "references"),
            (r#"{"ca":"fixed:nonsense"}"#, "ca"),
        ] {
            let error = parsed(&entry(change)).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains(A), "{error}");
        }
        assert!(matches!(parsed(&entry(r#"{"narSize":"x"}"#)), Err(PathInfoError::Entry { .. })));
        assert!(matches!(parsed("3"), Err(PathInfoError::Shape)));
        assert!(matches!(parsed("[3]"), Err(PathInfoError::Shape)));
        assert!(matches!(parsed("nix"), Err(PathInfoError::Json(_))));
        let other = r#"{"info":{},"storeDir":"/x","version":2}"#;
        assert!(matches!(parsed(other), Err(PathInfoError::StoreDir { .. })));
    }

    #[test]
    fn a_closure_comes_breadth_first_and_without_what_nobody_needs() {
        let c = "22222222222222222222222222222222-c";
        let found = vec![path(A, &[]), path(c, &[]), path(B, &[A, B])];
        let roots: Vec<StorePath> = vec![B.parse().unwrap(), B.parse().unwrap()];
        let closure = breadth_first(&roots, found.clone()).unwrap();
        assert_eq!(closure, [path(B, &[A, B]), path(A, &[])]);
        assert_eq!(breadth_first(&roots, found[1..].to_vec()), Err(A.parse().unwrap()));
    }
}
