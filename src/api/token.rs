//! Where the bearer token comes from.

use std::{ffi::OsString, fmt, io, path::PathBuf};

/// Bytes of a token's file; a larger one is none.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// A bearer token. Its `Debug` shows nothing.
#[derive(Clone)]
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
#[derive(Clone, Debug, Default)]
pub struct TokenSources {
    /// `--auth-token-path`, or `NIKS3_AUTH_TOKEN_FILE`.
    pub file: Option<PathBuf>,
    /// `NIKS3_AUTH_TOKEN`.
    pub plain: Option<OsString>,
    /// `$XDG_CONFIG_HOME/niks3/auth-token`, looked at if it exists.
    pub default_file: Option<PathBuf>,
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
    /// What was found is none. Does not show it.
    #[error("{0} holds no token: it is empty or has characters that no token has")]
    Invalid(String),
}

impl TokenError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(
            "give the file of the server's token with --auth-token-path or \
             NIKS3_AUTH_TOKEN_FILE, or put it into ~/.config/niks3/auth-token"
                .to_owned(),
        )
    }
}

impl TokenSources {
    /// The first token that is there. A file that was named and cannot be read is an error, not
    /// a reason to look elsewhere.
    ///
    /// # Errors
    /// When there is none, or it cannot be one.
    pub fn read(&self) -> Result<Token, TokenError> {
        if let Some(path) = &self.file {
            return read_file(path);
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
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_TOKEN_BYTES {
        return Err(TokenError::Invalid(path.display().to_string()));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    checked(&text, &path.display().to_string())
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

    #[test]
    fn the_first_source_that_was_given_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let mut sources = TokenSources {
            file: write("a", "from-flag\n"),
            plain: Some("from-variable".into()),
            default_file: write("b", "from-home"),
        };
        assert_eq!(sources.read().unwrap().reveal(), "from-flag");
        sources.file = None;
        assert_eq!(sources.read().unwrap().reveal(), "from-variable");
        sources.plain = None;
        assert_eq!(sources.read().unwrap().reveal(), "from-home");
        sources.default_file = Some(dir.path().join("none"));
        assert!(matches!(sources.read(), Err(TokenError::Missing)));
        sources.file = Some(dir.path().join("none"));
        assert!(matches!(sources.read(), Err(TokenError::File { .. })));
        sources.file = write("c", "two words");
        let error = sources.read().unwrap_err();
        assert!(!error.to_string().contains("two words"));
    }
}
