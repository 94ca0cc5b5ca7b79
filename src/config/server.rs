//! Which server, and where its token is.

use std::{ffi::OsString, path::PathBuf};

use niks3_core::flags::{FlagError, Flags};
use url::Url;

use crate::api::TokenSources;

/// A niks3 server, as every command needs it.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where it is.
    pub url: Url,
    /// Where its token is.
    pub token: TokenSources,
}

impl ServerConfig {
    /// Checks the flags; the server's is called `url`.
    pub(super) fn from_flags(
        flags: &Flags,
        url: &str,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, FlagError> {
        if !flags.is_absent("auth-token-path") && !flags.is_absent("auth-token-script") {
            return Err(flags.invalid(
                "auth-token-script",
                "give either this or --auth-token-path (NIKS3_AUTH_TOKEN_FILE), not both",
            ));
        }
        Ok(Self {
            url: flags.required(url, server_url)?,
            token: TokenSources {
                file: flags.all("auth-token-path").last().map(PathBuf::from),
                script: flags.all("auth-token-script").last().map(PathBuf::from),
                plain: env("NIKS3_AUTH_TOKEN").filter(|token| !token.is_empty()),
                default_file: config_home(&env).map(|dir| dir.join("niks3/auth-token")),
            },
        })
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
