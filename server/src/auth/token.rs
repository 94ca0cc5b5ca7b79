use std::{fmt, str::FromStr};

use niks3_core::limits::MIN_TOKEN_CHARS;
use subtle::ConstantTimeEq as _;

/// The bearer token that lets callers push. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Token(String);

/// Why a text is no token. Never contains it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Could be guessed.
    #[error(
        "the token has {0} characters, it needs {MIN_TOKEN_CHARS} at least; \
         `openssl rand -base64 32` makes one"
    )]
    Short(usize),
    /// Cannot stand in a header.
    #[error("the token has characters that cannot stand in an HTTP header")]
    Characters,
}

impl Token {
    /// Compares in a time that does not depend on where the two differ.
    #[must_use]
    pub fn is(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let chars = text.chars().count();
        if chars < MIN_TOKEN_CHARS {
            return Err(TokenError::Short(chars));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Characters);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_printable_and_compared_whole() {
        let text = "abcdefghijklmnopqrstuvwxyz0123456789";
        let token: Token = format!("{text}\n").parse().unwrap();
        assert!(token.is(text));
        assert!(!token.is(&text[..35]) && !token.is("") && !token.is(&format!("{text}0")));
        assert!(!format!("{token:?}").contains("abc"));
        assert_eq!(text[..35].parse::<Token>().unwrap_err(), TokenError::Short(35));
        let spaced = format!("{text} {text}");
        assert_eq!(spaced.parse::<Token>().unwrap_err(), TokenError::Characters);
    }
}
