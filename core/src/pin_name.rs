//! The name of a pin.

use std::{fmt, str::FromStr};

use crate::wire::text_serde;

/// Characters of a name. It becomes a key of the bucket and a part of URLs.
const MAX_CHARS: usize = 100;

/// A name for a closure: letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinName(String);

/// Why a text is no name of a pin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of a pin: it takes 1 to {MAX_CHARS} letters, digits, `.`, `_` and `-`, \
     beginning with a letter or digit"
)]
pub struct PinNameError(String);

impl FromStr for PinName {
    type Err = PinNameError;

    fn from_str(text: &str) -> Result<Self, PinNameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.len() <= MAX_CHARS && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PinNameError(text.chars().take(2 * MAX_CHARS).collect()))
        }
    }
}

impl fmt::Display for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_serde!(PinName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_in_keys_and_urls() {
        for name in ["main", "release-1.2_x", "0", &"x".repeat(MAX_CHARS)] {
            assert_eq!(name.parse::<PinName>().unwrap().to_string(), name);
        }
        for name in ["", ".", "..", ".hidden", "-x", "a/b", "a b", "ä", &"x".repeat(MAX_CHARS + 1)]
        {
            assert!(name.parse::<PinName>().is_err(), "{name:?} was taken");
        }
    }
}
