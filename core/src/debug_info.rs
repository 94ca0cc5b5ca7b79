//! In which NAR a debug file lies, so that debuggers find it by its build id: what Nix's
//! `index-debug-info` writes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{object_key::ObjectKey, wire::text_serde};

/// Where debug files lie in an output, each as `<first two digits>/<other 38>.debug`.
pub const DEBUG_FOLDER: &str = "lib/debug/.build-id";

/// Hexadecimal digits of a build id.
const DIGITS: usize = 40;

/// What a linker names a build by: 40 hexadecimal digits in lower case. Nix indexes no other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId([u8; DIGITS]);

/// The text is no build id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a build id: 40 hexadecimal digits in lower case")]
pub struct BuildIdError(String);

impl BuildId {
    /// That of a file in [`DEBUG_FOLDER`], if it is a debug file.
    #[must_use]
    pub fn of_file(folder: &str, file: &str) -> Option<Self> {
        let rest = file.strip_suffix(".debug")?;
        let fits = folder.len() == 2 && rest.len() == DIGITS - 2;
        fits.then(|| format!("{folder}{rest}").parse().ok()).flatten()
    }

    /// Where its file lies in the output.
    #[must_use]
    pub fn member(&self) -> String {
        let id = self.to_string();
        format!("{DEBUG_FOLDER}/{}/{}.debug", &id[..2], &id[2..])
    }

    /// The text of `debuginfo/<build id>.debug` for a file that lies in this NAR.
    #[must_use]
    pub fn compose(&self, nar: &ObjectKey) -> String {
        let link = Link { archive: format!("../{nar}"), member: self.member() };
        serde_json::to_string(&link).expect("a name has a form in JSON")
    }
}

/// The JSON, its fields in Nix's order.
#[derive(Serialize, Deserialize)]
struct Link {
    archive: String,
    member: String,
}

/// The NAR that a text of [`BuildId::compose`] names, if it is one of ours.
#[must_use]
pub fn archive(text: &str) -> Option<ObjectKey> {
    let link: Link = serde_json::from_str(text).ok()?;
    let key: ObjectKey = link.archive.strip_prefix("../")?.parse().ok()?;
    matches!(key, ObjectKey::Nar(..)).then_some(key)
}

impl FromStr for BuildId {
    type Err = BuildIdError;

    fn from_str(text: &str) -> Result<Self, BuildIdError> {
        let digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        let digits: Option<[u8; DIGITS]> = text.as_bytes().try_into().ok();
        digits
            .filter(|digits| digits.iter().all(digit))
            .map(Self)
            .ok_or_else(|| BuildIdError(text.to_owned()))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| fmt::Write::write_char(f, char::from(*byte)))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_serde!(BuildId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_file_is_linked_as_nix_does_it() {
        let id = BuildId::of_file("ab", "cdef0123456789abcdef0123456789abcdef01.debug").unwrap();
        assert_eq!(id.to_string(), "abcdef0123456789abcdef0123456789abcdef01");
        let nar = "nar/1gdrznnn38fwl3rrcqk478wc9qnybc8zlykadjy8wgdlbhzz6dq8-\
                   aaaaaaaaaaaaaaaaaaaaaaaa.nar.zst";
        let text = id.compose(&nar.parse().unwrap());
        assert_eq!(
            text,
            format!(
                r#"{{"archive":"../{nar}","member":"lib/debug/.build-id/ab/cdef0123456789abcdef0123456789abcdef01.debug"}}"#
            )
        );
        assert_eq!(archive(&text).unwrap().to_string(), nar);
        assert!(archive(&text.replace("../nar", "nar")).is_none());
    }

    #[test]
    fn other_files_are_no_debug_files() {
        let rest = "cdef0123456789abcdef0123456789abcdef01";
        for (folder, file) in [
            ("ab", rest.to_owned()),
            ("abc", format!("{}.debug", &rest[1..])),
            ("AB", format!("{rest}.debug")),
            ("ab", format!("{}/.debug", &rest[1..])),
            ("ab", format!("{}.debug", &rest[1..])),
            ("", String::new()),
        ] {
            assert!(BuildId::of_file(folder, &file).is_none(), "{folder}/{file}");
        }
    }
}
