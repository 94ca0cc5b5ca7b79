//! Where the bearer token comes from.

mod renewal;
mod script;

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

pub use renewal::Tokens;
pub use script::ScriptError;
#[cfg(test)]
pub(super) use script::tests::script as test_script;

/// Bytes of a token's file, or of what a script prints; more is no token.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// A bearer token. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The token itself, for the header.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Where to look, in this order.
#[derive(Clone, Default)]
pub struct TokenSources {
    /// `--auth-token-path`, or `NIKS3_AUTH_TOKEN_FILE`.
    pub file: Option<PathBuf>,
    /// `--auth-token-script`, or `NIKS3_AUTH_TOKEN_SCRIPT`: a program that prints it.
    pub script: Option<PathBuf>,
    /// `NIKS3_AUTH_TOKEN`.
    pub plain: Option<OsString>,
    /// `$XDG_CONFIG_HOME/niks3/auth-token`, looked at if it exists.
    pub default_file: Option<PathBuf>,
}

impl fmt::Debug for TokenSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSources")
            .field("file", &self.file)
            .field("script", &self.script)
            .field("plain", &self.plain.as_ref().map(|_| "…"))
            .field("default_file", &self.default_file)
            .finish()
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Nothing was given.
    #[error("there is no token for the niks3 server")]
    Missing,
    /// A file cannot be read.
    #[error("cannot read the token from {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A script gives none.
    #[error("cannot get the token from the script {script}")]
    Script {
        /// Which one.
        script: PathBuf,
        /// Why not.
        #[source]
        source: ScriptError,
    },
    /// What was found is none. Does not show it.
    #[error("{0} holds no token: it is empty or has characters that no token has")]
    Invalid(String),
}

impl TokenError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Script { source: ScriptError::Failed(_) | ScriptError::TimedOut, .. } => {
                "run it by hand: what it writes to standard error says more"
            }
            Self::Script { .. } => {
                "it must be an executable file that prints the token and nothing else"
            }
            Self::Missing | Self::File { .. } | Self::Invalid(_) => {
                "give the file of the server's token with --auth-token-path or \
                 NIKS3_AUTH_TOKEN_FILE, or put it into ~/.config/niks3/auth-token"
            }
        };
        Some(hint.to_owned())
    }
}

impl TokenSources {
    /// The first token that is there. A file that was named and cannot be read is an error, not
    /// a reason to look elsewhere.
    ///
    /// # Errors
    /// When there is none, or it cannot be one.
    pub async fn read(&self) -> Result<Token, TokenError> {
        if let Some(path) = &self.file {
            return read_file(path);
        }
        if let Some(script) = &self.script {
            let failed = |source| TokenError::Script { script: script.clone(), source };
            let printed = script::run(script).await.map_err(failed)?;
            let source = format!("the output of {}", script.display());
            return checked(&String::from_utf8_lossy(&printed), &source);
        }
        if let Some(plain) = &self.plain {
            return checked(&plain.to_string_lossy(), "NIKS3_AUTH_TOKEN");
        }
        match self.default_file.as_ref().filter(|path| path.exists()) {
            Some(path) => read_file(path),
            None => Err(TokenError::Missing),
        }
    }
}

fn read_file(path: &PathBuf) -> Result<Token, TokenError> {
    let failed = |source| TokenError::File { path: path.clone(), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_TOKEN_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_TOKEN_BYTES {
        return Err(TokenError::Invalid(path.display().to_string()));
    }
    checked(&String::from_utf8_lossy(&bytes), &path.display().to_string())
}

fn checked(text: &str, source: &str) -> Result<Token, TokenError> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::Invalid(source.to_owned()));
    }
    Ok(Token(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_source_that_was_given_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let mut sources = TokenSources {
            file: write("a", "from-flag\n"),
            script: Some(test_script(dir.path(), "s", "echo from-script")),
            plain: Some("from-variable".into()),
            default_file: write("b", "from-home"),
        };
        assert!(!format!("{sources:?}").contains("from-"));
        assert_eq!(sources.read().await.unwrap().reveal(), "from-flag");
        sources.file = None;
        assert_eq!(sources.read().await.unwrap().reveal(), "from-script");
        sources.script = None;
        assert_eq!(sources.read().await.unwrap().reveal(), "from-variable");
        sources.plain = None;
        assert_eq!(sources.read().await.unwrap().reveal(), "from-home");
        sources.default_file = Some(dir.path().join("none"));
        assert!(matches!(sources.read().await, Err(TokenError::Missing)));
        sources.file = Some(dir.path().join("none"));
        assert!(matches!(sources.read().await, Err(TokenError::File { .. })));
    }

    #[tokio::test]
    async fn what_is_no_token_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        for text in ["two words", "", "geheimnü", &"x".repeat(20_000)] {
            std::fs::write(&path, text).unwrap();
            let file = TokenSources { file: Some(path.clone()), ..TokenSources::default() };
            let error = file.read().await.unwrap_err().to_string();
            assert!(
                error
                    .ends_with("c holds no token: it is empty or has characters that no token has"),
                "{error}"
            );
        }
        let script = Some(test_script(dir.path(), "s", "echo two words"));
        let error = TokenSources { script, ..TokenSources::default() }.read().await.unwrap_err();
        assert!(error.to_string().starts_with("the output of /"), "{error}");
        assert!(!error.to_string().contains("two words"));
    }
}
