//! Flags, environment and files become one checked [`PushConfig`].

use std::{ffi::OsString, path::PathBuf};

use niks3_core::flags::{FlagError, Flags};
use url::Url;

use crate::{
    api::TokenSources,
    nix::{StoreSettings, Want},
};

/// What `copy` and `push` need to know.
#[derive(Clone, Debug)]
pub struct PushConfig {
    /// The niks3 server.
    pub server: Url,
    /// Where its token is.
    pub token: TokenSources,
    /// The store to read.
    pub store: StoreSettings,
    /// What was named: paths, links, flake references.
    pub installables: Vec<String>,
    /// `--stdin`
    pub stdin: bool,
    /// `--all`
    pub all: bool,
    /// `--derivation`
    pub want: Want,
}

impl PushConfig {
    /// Checks the flags; the server's is called `url`.
    ///
    /// # Errors
    /// With the first one that is wrong or missing.
    pub fn from_flags(
        flags: &Flags,
        url: &str,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, FlagError> {
        let not_utf8 = |arg: &OsString| {
            let arg = arg.to_string_lossy();
            FlagError::Parse(format!("{arg:?} is not UTF-8, so it names nothing in a Nix store"))
        };
        let text = |arg: &OsString| arg.to_str().map(str::to_owned).ok_or_else(|| not_utf8(arg));
        if !flags.is_absent("auth-token-path") && !flags.is_absent("auth-token-script") {
            return Err(flags.invalid(
                "auth-token-script",
                "give either this or --auth-token-path (NIKS3_AUTH_TOKEN_FILE), not both",
            ));
        }
        let store = flags.text("store")?;
        let derivation = flags.switch("derivation")?;
        let config = Self {
            server: flags.required(url, server_url)?,
            token: TokenSources {
                file: flags.all("auth-token-path").last().map(PathBuf::from),
                script: flags.all("auth-token-script").last().map(PathBuf::from),
                plain: env("NIKS3_AUTH_TOKEN").filter(|token| !token.is_empty()),
                default_file: config_home(&env).map(|dir| dir.join("niks3/auth-token")),
            },
            store: StoreSettings::new(store.as_deref(), &env)
                .map_err(|error| flags.invalid("store", error.to_string()))?,
            installables: flags.arguments.iter().map(text).collect::<Result<_, _>>()?,
            stdin: flags.switch("stdin")?,
            all: flags.switch("all")?,
            want: if derivation { Want::Derivation } else { Want::Outputs },
        };
        if config.all && (config.stdin || !config.installables.is_empty()) {
            return Err(flags.invalid("all", "it takes no paths, and no --stdin"));
        }
        if !config.all && !config.stdin && config.installables.is_empty() {
            return Err(FlagError::Parse(
                "there is no path to push: name one, or use --stdin or --all".to_owned(),
            ));
        }
        Ok(config)
    }
}

/// People who know `nix copy` give the bucket here.
fn server_url(text: &str) -> Result<Url, String> {
    match text.parse::<Url>() {
        // Errors and logs name the server: nothing secret may be in its URL.
        Ok(url)
            if !url.username().is_empty()
                || url.password().is_some()
                || url.query().is_some()
                || url.fragment().is_some() =>
        {
            Err("the niks3 server's URL has no user, password, query or fragment; the token goes \
                 into a file, see --auth-token-path"
                .to_owned())
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        Ok(url) => Err(format!(
            "{}: URLs are a store's; give the https:// URL of the niks3 server, which knows the \
             bucket and signs for it",
            url.scheme()
        )),
        Err(_) if text.contains('@') => {
            Err("it is not the URL of a niks3 server, such as https://host".to_owned())
        }
        Err(_) => Err(format!("{text:?} is not the URL of a niks3 server, such as https://host")),
    }
}

fn config_home(env: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let given = env("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    given.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".config")))
}
