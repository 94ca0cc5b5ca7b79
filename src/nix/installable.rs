//! What a person types → store paths, with the habits of `nix copy`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use niks3_core::store_path::{StorePath, StorePathError};

use super::{NixCommandError, Store, StoreError, StoreSettings, normalised};

/// Symlinks to follow from one argument, as many as Linux itself follows.
const MAX_LINKS: usize = 40;

/// What shall be pushed of that which an installable names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Its outputs: the default.
    Outputs,
    /// Its derivation: `--derivation`.
    Derivation,
}

/// Why an argument names no store path.
#[derive(Debug, thiserror::Error)]
pub enum InstallableError {
    /// An empty text, or one that begins with a dash.
    #[error("{text:?} is neither a store path, a file nor a flake reference")]
    Nothing {
        /// What was typed.
        text: String,
    },
    /// In the store, but not a store path.
    #[error("{path:?} lies in the store, but is no store path")]
    BadStorePath {
        /// What was typed, or where it leads.
        path: PathBuf,
        /// What is wrong with its name.
        #[source]
        source: StorePathError,
    },
    /// The typed path, or something on its way, cannot be looked at.
    #[error("{text:?} is no flake reference, and {file:?} cannot be looked at")]
    Look {
        /// What was typed.
        text: String,
        /// The part that could not be looked at.
        file: PathBuf,
        /// Why: `No such file or directory`, mostly.
        #[source]
        source: io::Error,
    },
    /// A file that has nothing to do with the store.
    #[error(
        "{text:?} leads to {file:?}, which is neither in {store_dir} nor a folder with a flake.nix"
    )]
    NotInStore {
        /// What was typed.
        text: String,
        /// Where it leads.
        file: PathBuf,
        /// Where it should lead.
        store_dir: String,
    },
    /// A symlink to itself, for one.
    #[error("{text:?} leads through more than {MAX_LINKS} symlinks")]
    TooManyLinks {
        /// What was typed.
        text: String,
    },
    /// A derivation that was not built.
    #[error("no output of the derivation {derivation} is in the store")]
    NoOutputs {
        /// Which.
        derivation: StorePath,
    },
    /// Its outputs cannot be found out.
    #[error("cannot find the outputs of the derivation {derivation}")]
    Outputs {
        /// Which.
        derivation: StorePath,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// No output, or several of them, where one is wanted.
    #[error("{text:?} names {} paths, and one is needed: {}", .paths.len(), list(.paths))]
    NotOne {
        /// What was typed.
        text: String,
        /// What it names.
        paths: Vec<StorePath>,
    },
    /// `nix` was asked.
    #[error("cannot resolve {}", .texts.join(" "))]
    Nix {
        /// What was typed.
        texts: Vec<String>,
        /// Why.
        #[source]
        source: Box<NixCommandError>,
    },
}

fn list(paths: &[StorePath]) -> String {
    paths.iter().map(StorePath::to_string).collect::<Vec<_>>().join(", ")
}

impl InstallableError {
    /// What a person can do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoOutputs { derivation } => Some(format!(
                "build {derivation} first, or push the derivation itself with --derivation"
            )),
            Self::Outputs { source, .. } => source.hint(),
            Self::Nix { source, .. } => source.hint(),
            Self::Nothing { .. } | Self::Look { .. } | Self::NotInStore { .. } => Some(
                "name a store path, a link such as ./result, or a flake reference such as \
                 nixpkgs#hello"
                    .to_owned(),
            ),
            Self::NotOne { .. } => Some("name one of them by its store path".to_owned()),
            Self::BadStorePath { .. } | Self::TooManyLinks { .. } => None,
        }
    }
}

/// What a text can be, as far as the text alone tells.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// Inside the store: this base name.
    InStore(String),
    /// Only Nix understands it.
    Nix,
    /// A path in the file system: a link into the store, or a flake's folder.
    File,
    /// A file's name, or a flake of the registry: `result`, `nixpkgs`.
    Word,
    /// None of them.
    Nothing,
}

/// The store paths that `texts` name, each once: those that the text or the file system tells, in
/// the order given; then those that `nix` tells. Nix builds what is not built yet.
///
/// # Errors
/// With the first text that names nothing.
pub fn resolve(
    store: &Store,
    texts: &[String],
    want: Want,
) -> Result<Vec<StorePath>, InstallableError> {
    let mut paths = Vec::new();
    let mut for_nix = Vec::new();
    for text in texts {
        match (look_up(text, store.settings())?, want) {
            (None, _) => for_nix.push(text.clone()),
            (Some(path), Want::Outputs) if path.is_derivation() => {
                let outputs = store.outputs_of(&path).map_err(|error| {
                    let source = Box::new(error);
                    InstallableError::Outputs { derivation: path.clone(), source }
                })?;
                if outputs.is_empty() {
                    return Err(InstallableError::NoOutputs { derivation: path });
                }
                paths.extend(outputs);
            }
            (Some(path), Want::Derivation) if !path.is_derivation() => {
                for_nix.push(path.absolute(&store.settings().store_dir));
            }
            (Some(path), _) => paths.push(path),
        }
    }
    if !for_nix.is_empty() {
        let texts: Vec<&str> = for_nix.iter().map(String::as_str).collect();
        let resolved = match want {
            Want::Outputs => store.nix().build(&texts),
            Want::Derivation => store.nix().derivations(&texts),
        };
        paths.extend(resolved.map_err(|error| {
            let source = Box::new(error);
            InstallableError::Nix { texts: for_nix, source }
        })?);
    }
    let mut seen = BTreeSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    Ok(paths)
}

/// The store path that `text` names; `None` is for Nix to find out.
pub(super) fn look_up(
    text: &str,
    settings: &StoreSettings,
) -> Result<Option<StorePath>, InstallableError> {
    match classify(text, settings) {
        Kind::InStore(base_name) => store_path(&base_name, Path::new(text)).map(Some),
        Kind::Nix => Ok(None),
        Kind::Nothing => Err(InstallableError::Nothing { text: text.to_owned() }),
        Kind::File => match follow(text, settings)? {
            Lead::Store(path) => Ok(Some(path)),
            Lead::File(file) if in_a_flake(&file) => Ok(None),
            Lead::File(file) => {
                let (text, store_dir) = (text.to_owned(), settings.store_dir.to_string());
                Err(InstallableError::NotInStore { text, file, store_dir })
            }
            // `./folder?dir=sub` is a folder for Nix.
            Lead::Nowhere { file, source } => match text.split_once('?') {
                Some((folder, _)) if Path::new(folder).is_dir() => Ok(None),
                _ => Err(InstallableError::Look { text: text.to_owned(), file, source }),
            },
        },
        // Nix would only look into its registry; `result` is too natural not to be understood.
        Kind::Word => match follow(text, settings)? {
            Lead::Store(path) => Ok(Some(path)),
            Lead::File(_) | Lead::Nowhere { .. } => Ok(None),
        },
    }
}

fn classify(text: &str, settings: &StoreSettings) -> Kind {
    let scheme = text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
    });
    let dirs = [PathBuf::from(settings.store_dir.as_str()), settings.real_store_dir.clone()];
    if text.is_empty() || text.starts_with('-') {
        Kind::Nothing
    } else if scheme || text.contains(['#', '^']) {
        // `github:x/y`, `nixpkgs#hello`, `/nix/store/….drv^out`
        Kind::Nix
    } else if let Some(name) = text.starts_with('/').then(|| in_store(text, &dirs)).flatten() {
        Kind::InStore(name)
    } else if text.contains('/') || text == "." || text == ".." {
        Kind::File
    } else if text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    {
        Kind::Word
    } else {
        // `result-1.0`, `.hidden`: no flake's name has a dot.
        Kind::File
    }
}

/// The base name of the store path in which an absolute `path` lies, by its text alone.
fn in_store(path: impl AsRef<Path>, store_dirs: &[PathBuf]) -> Option<String> {
    let path = normalised(path.as_ref());
    store_dirs.iter().find_map(|store_dir| {
        let below = path.strip_prefix(store_dir).ok()?;
        Some(below.components().next()?.as_os_str().to_string_lossy().into_owned())
    })
}

fn store_path(base_name: &str, path: &Path) -> Result<StorePath, InstallableError> {
    let bad = |source| InstallableError::BadStorePath { path: path.to_owned(), source };
    base_name.parse().map_err(bad)
}

/// Where a path leads.
#[derive(Debug)]
enum Lead {
    /// Into the store.
    Store(StorePath),
    /// To this, which is no link.
    File(PathBuf),
    /// This part of the way is not there.
    Nowhere { file: PathBuf, source: io::Error },
}

/// Follows `text` link by link. Only the text of a link counts once it is in the store: with
/// `--store ROOT` a link says `/nix/store/…`, which lies in another place or nowhere.
fn follow(text: &str, settings: &StoreSettings) -> Result<Lead, InstallableError> {
    let absolute = match std::path::absolute(text) {
        Ok(absolute) => absolute,
        Err(source) => return Ok(Lead::Nowhere { file: text.into(), source }),
    };
    let mut dirs = vec![settings.store_dir.as_str().into(), settings.real_store_dir.clone()];
    // The store's folder may itself be reached through a link (macOS: /tmp).
    dirs.extend(fs::canonicalize(&settings.real_store_dir));
    let mut path = normalised(&absolute);
    for _ in 0..=MAX_LINKS {
        if let Some(name) = in_store(&path, &dirs) {
            return store_path(&name, &path).map(Lead::Store);
        }
        match first_link(&path) {
            Ok(Some(target)) => path = target,
            Ok(None) => return Ok(Lead::File(path)),
            Err((file, source)) => return Ok(Lead::Nowhere { file, source }),
        }
    }
    Err(InstallableError::TooManyLinks { text: text.to_owned() })
}

/// `path` with the first link on its way replaced by where it leads.
fn first_link(path: &Path) -> Result<Option<PathBuf>, (PathBuf, io::Error)> {
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.pop(); // the root folder
    for part in way.into_iter().rev() {
        let failed = |source| (part.to_owned(), source);
        if !fs::symlink_metadata(part).map_err(failed)?.is_symlink() {
            continue;
        }
        let target = fs::read_link(part).map_err(failed)?;
        let folder = part.parent().unwrap_or(Path::new("/"));
        let rest = path.strip_prefix(part).unwrap_or(Path::new(""));
        return Ok(Some(normalised(&folder.join(target).join(rest))));
    }
    Ok(None)
}

/// Nix looks for `flake.nix` in a folder and those above it.
fn in_a_flake(folder: &Path) -> bool {
    folder.is_dir() && folder.ancestors().any(|folder| folder.join("flake.nix").is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const PATH: &str = "00000000000000000000000000000000-a";

    fn rooted(root: &Path) -> StoreSettings {
        StoreSettings::new(root.to_str(), |_| None).unwrap()
    }

    #[test]
    fn a_text_tells_what_it_is() {
        let settings = rooted(Path::new("/root"));
        let in_store = || Kind::InStore(PATH.to_owned());
        for (text, kind) in [
            ("/nix/store/00000000000000000000000000000000-a", in_store()),
            ("/nix/store/00000000000000000000000000000000-a/bin/x", in_store()),
            ("//nix/./store/../store/00000000000000000000000000000000-a/", in_store()),
            ("/root/nix/store/00000000000000000000000000000000-a/x", in_store()),
            ("/nix/store/nonsense", Kind::InStore("nonsense".to_owned())),
            ("/nix/store/00000000000000000000000000000000-a.drv^out", Kind::Nix),
            ("/nix/store/00000000000000000000000000000000-a.drv^*", Kind::Nix),
            ("nixpkgs#hello", Kind::Nix),
            ("nixpkgs#hello^dev,out", Kind::Nix),
            (".#foo", Kind::Nix),
            ("/some/where#foo", Kind::Nix),
            ("github:x/y", Kind::Nix),
            ("git+https://example.org/x.git?ref=main", Kind::Nix),
            ("path:/some/where", Kind::Nix),
            ("/nix/store", Kind::File),
            ("/nix/store/../x", Kind::File),
            ("/nix/storehouse/x", Kind::File),
            (".", Kind::File),
            ("..", Kind::File),
            ("./result", Kind::File),
            ("build/result", Kind::File),
            ("result-1.0", Kind::File),
            ("result", Kind::Word),
            ("result-dev", Kind::Word),
            ("nixpkgs", Kind::Word),
            ("", Kind::Nothing),
            ("--all", Kind::Nothing),
        ] {
            assert_eq!(classify(text, &settings), kind, "{text:?}");
        }
    }

    /// What `text` names below a folder with links; `None` is for Nix.
    fn found(
        folder: &Path,
        text: &str,
        settings: &StoreSettings,
    ) -> Result<Option<String>, InstallableError> {
        let text = folder.join(text);
        look_up(text.to_str().unwrap(), settings).map(|path| path.map(|path| path.to_string()))
    }

    #[test]
    fn links_are_followed_until_their_text_is_in_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        // The store's files are elsewhere: what the links name does not exist.
        let settings = rooted(&folder.join("root"));
        let target = format!("/nix/store/{PATH}");
        symlink(&target, folder.join("result")).unwrap();
        symlink("result", folder.join("second")).unwrap();
        fs::create_dir(folder.join("sub")).unwrap();
        symlink("../second", folder.join("sub/third")).unwrap();
        symlink("sub", folder.join("sub-link")).unwrap();
        symlink(format!("{target}/share/x"), folder.join("deep")).unwrap();
        symlink(settings.real_store_dir.join(PATH), folder.join("real")).unwrap();
        for text in [
            "result",
            "result/",
            "result/bin/x",
            "second",
            "sub/third",
            "sub-link/third/lib",
            "sub/../result",
            "deep",
            "real",
        ] {
            let path = found(folder, text, &settings).unwrap();
            assert_eq!(path.as_deref(), Some(PATH), "{text}");
        }
    }

    #[test]
    fn a_store_folder_that_is_itself_a_link_is_the_store_too() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir_all(folder.join("disk/nix/store")).unwrap();
        symlink("disk", folder.join("root")).unwrap();
        symlink(folder.join("disk/nix/store").join(PATH), folder.join("result")).unwrap();
        let settings = rooted(&folder.join("root"));
        assert_eq!(found(folder, "result", &settings).unwrap().as_deref(), Some(PATH));
    }

    #[test]
    fn a_folder_is_for_nix_only_if_it_is_in_a_flake() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let settings = StoreSettings::new(None, |_| None).unwrap();
        fs::create_dir_all(folder.join("flake/sub")).unwrap();
        let error = found(folder, "flake", &settings).unwrap_err();
        assert!(matches!(error, InstallableError::NotInStore { .. }), "{error}");
        fs::write(folder.join("flake/flake.nix"), "{ }").unwrap();
        for text in ["flake", "flake/sub", "flake/sub/..", "flake?dir=sub"] {
            assert!(found(folder, text, &settings).unwrap().is_none(), "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused_with_what_was_tried() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let settings = StoreSettings::new(None, |_| None).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        symlink("loop", folder.join("loop")).unwrap();
        symlink("gone", folder.join("dangling")).unwrap();
        let error = found(folder, "no/such/file", &settings).unwrap_err();
        let InstallableError::Look { file, source, .. } = &error else { panic!("{error}") };
        assert_eq!((file, source.kind()), (&folder.join("no"), io::ErrorKind::NotFound));
        let error = found(folder, "dangling", &settings).unwrap_err();
        assert!(matches!(&error, InstallableError::Look { file, .. } if file.ends_with("gone")));
        let error = found(folder, "file", &settings).unwrap_err();
        assert!(matches!(&error, InstallableError::NotInStore { .. }) && error.hint().is_some());
        let error = found(folder, "loop", &settings).unwrap_err();
        assert!(matches!(error, InstallableError::TooManyLinks { .. }), "{error}");
        let error = found(folder, "/nix/store/nonsense", &settings).unwrap_err();
        assert!(matches!(error, InstallableError::BadStorePath { .. }), "{error}");
        let error = found(folder, "/nix/store", &settings).unwrap_err();
        assert!(matches!(
            error,
            InstallableError::NotInStore { .. } | InstallableError::Look { .. }
        ));
        assert!(matches!(look_up("", &settings), Err(InstallableError::Nothing { .. })));
        // A word is Nix's to judge.
        assert!(look_up("no-such-word", &settings).unwrap().is_none());
    }
}
