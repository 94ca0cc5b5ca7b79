//! Where a Nix store lies: its paths, its files, its database, its logs.

use std::{
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

use niks3_core::store_path::{StoreDir, StorePath, StorePathError};

use super::conf;

/// Where things are, as Nix itself would decide it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// What store paths begin with, such as `/nix/store`.
    pub store_dir: StoreDir,
    /// Where the files of store paths are. Another place than `store_dir` with `--store ROOT`.
    pub real_store_dir: PathBuf,
    /// Nix's state. The database is `db/db.sqlite` in it.
    pub state_dir: PathBuf,
    /// The build logs are in `drvs/` of it.
    pub log_dir: PathBuf,
    /// What a `nix` that we start must be told as `--store`; nothing for its own default.
    pub store_url: Option<String>,
    /// The `nix` program: a name is looked up in `PATH`. `nix-store` is expected beside it.
    pub nix_program: PathBuf,
    /// Where the daemon of this store listens, if it has one.
    pub daemon_socket: PathBuf,
    /// Whether files may have Nix's case hack in their names: `use-case-hack` in Nix's configuration,
    /// else on macOS alone.
    pub case_hack: bool,
}

/// Settings that name no local store.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// `ssh://` and the like.
    #[error("cannot read the store {store:?}: only a store of this machine can be pushed")]
    NotLocal {
        /// What was given.
        store: String,
    },
    /// Not UTF-8, or not `%41`.
    #[error("{what} is not readable text: {value:?}")]
    Text {
        /// The flag or variable.
        what: &'static str,
        /// What was given.
        value: OsString,
    },
    /// Nix refuses it as well.
    #[error("{path:?} cannot be a store directory")]
    StoreDir {
        /// What was given.
        path: PathBuf,
        /// Why.
        #[source]
        source: StorePathError,
    },
    /// Relative, and there is no current directory.
    #[error("cannot make {path:?} absolute")]
    Absolute {
        /// What was given.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl SettingsError {
    /// What a person can do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotLocal { .. } => Some(
                "give --store a folder, `local`, `local?root=FOLDER`, `daemon` or `auto`, or run \
                 niks3 on the other machine"
                    .to_owned(),
            ),
            Self::Text { .. } | Self::StoreDir { .. } | Self::Absolute { .. } => None,
        }
    }
}

impl StoreSettings {
    /// From `--store`, else `NIX_REMOTE`, and the variables that Nix reads: `NIX_STORE_DIR`
    /// (older: `NIX_STORE`), `NIX_STATE_DIR`, `NIX_LOG_DIR`. `env` looks up a variable.
    ///
    /// With a root folder the store paths stay those of `NIX_STORE_DIR`, and the rest lies in
    /// `ROOT/nix/store`, `ROOT/nix/var/nix` and `ROOT/nix/var/log/nix`, whatever the variables
    /// say: that is what Nix does. One setting is read from Nix's configuration files.
    ///
    /// # Errors
    /// When the store is not of this machine, or a value cannot be a path.
    pub fn new(
        store: Option<&str>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, SettingsError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let remote = env("NIX_REMOTE").map(|value| text("NIX_REMOTE", value)).transpose()?;
        let given = Given::parse(store.or(remote.as_deref()).unwrap_or("auto"))?;
        let dir = |names: &[&str], default: &str| {
            let value = names.iter().find_map(|name| env(name)).map(PathBuf::from);
            absolute(&value.unwrap_or_else(|| PathBuf::from(default)))
        };
        let (default_real, state_dir, log_dir) = match &given.root {
            Some(root) => {
                let root = absolute(root)?;
                let state = root.join("nix/var/nix");
                (Some(root.join("nix/store")), state, root.join("nix/var/log/nix"))
            }
            None => {
                let state = dir(&["NIX_STATE_DIR"], "/nix/var/nix")?;
                (None, state, dir(&["NIX_LOG_DIR"], "/nix/var/log/nix")?)
            }
        };
        let store_path = match &given.store {
            Some(store) => absolute(store)?,
            None => dir(&["NIX_STORE_DIR", "NIX_STORE"], "/nix/store")?,
        };
        let store_text = text("NIX_STORE_DIR", store_path.clone().into_os_string())?;
        let store_dir = StoreDir::new(store_text)
            .map_err(|source| SettingsError::StoreDir { path: store_path.clone(), source })?;
        let state_dir = given.state.map_or(Ok(state_dir), |dir| absolute(&dir))?;
        // With a root it is another store than that of the variable's daemon.
        let of_variable = env("NIX_DAEMON_SOCKET_PATH").filter(|_| given.root.is_none());
        let daemon_socket = given
            .socket
            .or(of_variable.map(PathBuf::from))
            .unwrap_or_else(|| state_dir.join("daemon-socket/socket"));
        let or = |given: Option<PathBuf>, default| given.map_or(Ok(default), |dir| absolute(&dir));
        Ok(Self {
            store_dir,
            real_store_dir: or(given.real, default_real.unwrap_or(store_path))?,
            state_dir,
            log_dir: or(given.log, log_dir)?,
            // A `nix` that we start reads NIX_REMOTE itself.
            store_url: store.map(str::to_owned),
            nix_program: PathBuf::from("nix"),
            daemon_socket,
            case_hack: conf::switch("use-case-hack", env).unwrap_or(cfg!(target_os = "macos")),
        })
    }

    /// Where the files of `path` are.
    #[must_use]
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.real_store_dir.join(path.to_string())
    }

    /// Nix's database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state_dir.join("db/db.sqlite")
    }
}

/// What the text of `--store` says.
#[derive(Default)]
struct Given {
    root: Option<PathBuf>,
    store: Option<PathBuf>,
    real: Option<PathBuf>,
    state: Option<PathBuf>,
    log: Option<PathBuf>,
    socket: Option<PathBuf>,
}

impl Given {
    fn parse(url: &str) -> Result<Self, SettingsError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut given = Self::default();
        match base {
            "" | "auto" | "local" | "daemon" | "local://" | "auto://" | "daemon://" => {}
            // A daemon's socket: the daemon of this machine, with the usual folders.
            _ if base.starts_with("unix://") => {
                let socket = percent_decoded(&base["unix://".len()..])?;
                given.socket = Some(socket.into()).filter(|socket: &PathBuf| socket != "");
            }
            _ if base.contains('/') && !base.contains("://") => given.root = Some(base.into()),
            _ => return Err(SettingsError::NotLocal { store: url.to_owned() }),
        }
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let folder = match key {
                "root" => &mut given.root,
                "store" => &mut given.store,
                "real" => &mut given.real,
                "state" => &mut given.state,
                "log" => &mut given.log,
                // Settings that do not say where the store is.
                _ => continue,
            };
            *folder = Some(percent_decoded(value)?.into()).filter(|dir: &PathBuf| dir != "");
        }
        Ok(given)
    }
}

fn percent_decoded(value: &str) -> Result<String, SettingsError> {
    let broken = || SettingsError::Text { what: "--store", value: value.into() };
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(broken()) };
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

fn text(what: &'static str, value: OsString) -> Result<String, SettingsError> {
    value.into_string().map_err(|value| SettingsError::Text { what, value })
}

fn absolute(path: &Path) -> Result<PathBuf, SettingsError> {
    let absolute = std::path::absolute(path)
        .map_err(|source| SettingsError::Absolute { path: path.to_owned(), source })?;
    Ok(normalised(&absolute))
}

/// An absolute path without `.`, `..` and double slashes, as text: symlinks are not looked at, as
/// Nix does it.
pub(crate) fn normalised(path: &Path) -> PathBuf {
    let mut normalised = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normalised.push(name),
            Component::ParentDir => {
                normalised.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    normalised
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(store: Option<&str>, env: &[(&str, &str)]) -> Result<StoreSettings, SettingsError> {
        StoreSettings::new(store, |name| {
            env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    /// Store directory, files, state, logs.
    fn places(store: Option<&str>, env: &[(&str, &str)]) -> [String; 4] {
        let settings = settings(store, env).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            settings.store_dir.to_string(),
            text(&settings.real_store_dir),
            text(&settings.state_dir),
            text(&settings.log_dir),
        ]
    }

    #[test]
    fn without_settings_the_store_is_where_it_always_is() {
        let usual = ["/nix/store", "/nix/store", "/nix/var/nix", "/nix/var/log/nix"];
        for store in [None, Some("auto"), Some("local"), Some("daemon"), Some("unix:///run/nix")] {
            assert_eq!(places(store, &[]), usual, "{store:?}");
        }
        assert_eq!(places(None, &[("NIX_STORE_DIR", ""), ("NIX_REMOTE", "daemon")]), usual);
    }

    #[test]
    fn the_variables_of_nix_move_the_store() {
        let env = [
            ("NIX_STORE", "/older/store"),
            ("NIX_STATE_DIR", "/data//var/nix/"),
            ("NIX_LOG_DIR", "/data/x/../log"),
        ];
        let moved = ["/older/store", "/older/store", "/data/var/nix", "/data/log"];
        assert_eq!(places(None, &env), moved);
        let both = [("NIX_STORE", "/older/store"), ("NIX_STORE_DIR", "/newer/store")];
        assert_eq!(places(None, &both)[0], "/newer/store");
    }

    #[test]
    fn a_root_moves_the_files_but_not_the_store_paths() {
        let rooted = [
            "/nix/store",
            "/mnt/a b/nix/store",
            "/mnt/a b/nix/var/nix",
            "/mnt/a b/nix/var/log/nix",
        ];
        for store in ["/mnt/a b", "/mnt/a b/", "local?root=/mnt/a%20b", "/mnt/a b?trusted=1"] {
            assert_eq!(places(Some(store), &[]), rooted, "{store}");
        }
        assert_eq!(places(None, &[("NIX_REMOTE", "/mnt/a b")]), rooted);
        assert_eq!(places(Some("auto"), &[("NIX_REMOTE", "/mnt/a b")])[1], "/nix/store");
        let env = [("NIX_STORE_DIR", "/own/store"), ("NIX_STATE_DIR", "/own/var")];
        let [store_dir, real, state, _] = places(Some("/mnt"), &env);
        assert_eq!([store_dir, real, state], ["/own/store", "/mnt/nix/store", "/mnt/nix/var/nix"]);
        let each = "local?store=/s&real=/r&state=/t&log=/l";
        assert_eq!(places(Some(each), &[]), ["/s", "/r", "/t", "/l"]);
        assert!(settings(Some("./root"), &[]).unwrap().real_store_dir.is_absolute());
    }

    #[test]
    fn the_daemon_of_a_store_is_where_nix_looks_for_it() {
        let socket = |store, env: &[_]| {
            let settings = settings(store, env).unwrap();
            settings.daemon_socket.to_str().unwrap().to_owned()
        };
        let usual = "/nix/var/nix/daemon-socket/socket";
        for store in [None, Some("daemon"), Some("local"), Some("unix://")] {
            assert_eq!(socket(store, &[]), usual, "{store:?}");
        }
        let variable = [("NIX_DAEMON_SOCKET_PATH", "/run/nix/other")];
        assert_eq!(socket(None, &variable), "/run/nix/other");
        assert_eq!(socket(Some("unix:///run/a%20b"), &variable), "/run/a b");
        let state = [("NIX_STATE_DIR", "/data/var")];
        assert_eq!(socket(None, &state), "/data/var/daemon-socket/socket");
        assert_eq!(socket(Some("/mnt"), &variable), format!("/mnt{usual}"));
    }

    #[test]
    fn a_store_of_another_machine_is_refused_in_one_sentence() {
        for store in ["ssh://host", "ssh-ng://host", "https://x", "s3://b", "file:///x", "word"] {
            let error = settings(Some(store), &[]).unwrap_err();
            assert!(matches!(error, SettingsError::NotLocal { .. }), "{store}");
            assert!(error.to_string().contains(store) && error.hint().is_some());
        }
        assert!(settings(Some("local?root=/a%2"), &[]).is_err());
        assert!(settings(Some("local?root=%ff"), &[]).is_err());
    }
}
