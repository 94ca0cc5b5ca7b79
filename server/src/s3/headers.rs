//! What readers and CDNs are told of an object: its type, and how long they may keep it.

use std::collections::BTreeMap;

use niks3_core::{
    object_key::{ObjectKey, ObjectKind},
    wire::MetadataEncoding,
};

use super::Bucket;

/// Of a key with a random part: there is never another body of it. A year is the most that RFC 2616
/// wanted, and what CDNs take for "always".
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Of what can be deleted, or sent again with other signatures. What a cache keeps is beyond a collection's
/// reach, so it is well below the grace period that garbage has.
const AN_HOUR: &str = "public, max-age=3600";

/// Of what moves at any time, and is small: pins.
const ASK_EACH_TIME: &str = "no-cache";

/// Characters of a header's value. The longest that makes sense have a hundred; S3 takes 8 KB of headers.
const MAX_VALUE: usize = 256;

/// The names that `--cache-control` and `--content-type` know.
const KINDS: &[(&str, &[ObjectKind])] = &[
    ("nar", &[ObjectKind::Nar]),
    ("narinfo", &[ObjectKind::NarInfo]),
    ("listing", &[ObjectKind::Listing]),
    ("log", &[ObjectKind::Log]),
    ("realisation", &[ObjectKind::Realisation, ObjectKind::BuildTrace]),
    ("debuginfo", &[ObjectKind::DebugInfo]),
];

/// The headers of objects where they are not the usual ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaders {
    /// `--cache-control`, `NIKS3_CACHE_CONTROL`
    pub cache_control: HeaderByKind,
    /// `--content-type`, `NIKS3_CONTENT_TYPE`
    pub content_type: HeaderByKind,
}

/// One header's value, by kind of object. An empty one leaves the header out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderByKind(BTreeMap<i16, String>);

impl HeaderByKind {
    /// Adds `KIND=VALUE`.
    ///
    /// # Errors
    /// In words, when there is no such kind, it was given before, or that cannot be a header's value.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let (name, value) =
            text.split_once('=').ok_or_else(|| format!("{text:?} is not KIND=VALUE"))?;
        let Some((_, kinds)) = KINDS.iter().find(|(known, _)| *known == name.trim()) else {
            let known: Vec<&str> = KINDS.iter().map(|(known, _)| *known).collect();
            return Err(format!("{name:?} is none of {}", known.join(", ")));
        };
        let value = value.trim();
        if value.len() > MAX_VALUE {
            let bytes = value.len();
            return Err(format!(
                "the value of {name} has {bytes} characters, the limit is {MAX_VALUE}"
            ));
        }
        // Tabs and more are allowed in headers, and change on their way through some proxies, while S3
        // compares what is signed byte by byte.
        if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
            || value.contains("  ")
        {
            return Err(format!(
                "{value:?} cannot be a header's value: visible ASCII, with single spaces"
            ));
        }
        for kind in *kinds {
            if self.0.insert(*kind as i16, value.to_owned()).is_some() {
                return Err(format!("{name} was given more than once"));
            }
        }
        Ok(())
    }

    fn get<'a>(&'a self, key: &ObjectKey, usual: &'a str) -> &'a str {
        self.0.get(&(key.kind() as i16)).map_or(usual, String::as_str)
    }
}

/// How long others may keep an object, unless the server is told otherwise.
fn usual_cache_control(key: &ObjectKey) -> &'static str {
    match key {
        ObjectKey::Nar(..) => FOR_EVER,
        ObjectKey::NarInfo(_)
        | ObjectKey::Listing(_)
        | ObjectKey::Log(_)
        | ObjectKey::Realisation(..)
        | ObjectKey::BuildTrace(..)
        | ObjectKey::DebugInfo(_) => AN_HOUR,
        ObjectKey::CacheInfo | ObjectKey::Pin(_) | ObjectKey::Generation(..) => ASK_EACH_TIME,
    }
}

impl Bucket {
    /// The headers that an object is stored with, by name in lower case; all of them are signed.
    pub(super) fn object_headers(&self, key: &ObjectKey) -> BTreeMap<String, String> {
        let content_type = self.headers.content_type.get(key, key.content_type());
        let cache_control = self.headers.cache_control.get(key, usual_cache_control(key));
        let encoding = self.content_encoding(key).unwrap_or_default();
        [
            ("content-type", content_type),
            ("cache-control", cache_control),
            ("content-encoding", encoding),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }

    /// The Content-Encoding of an object. A NAR has none, ever: every Nix would decode it, find
    /// that its compression is gone, and fail.
    pub(super) fn content_encoding(&self, key: &ObjectKey) -> Option<&'static str> {
        let is_metadata = match key {
            ObjectKey::NarInfo(_)
            | ObjectKey::Listing(_)
            | ObjectKey::Log(_)
            | ObjectKey::Realisation(..)
            | ObjectKey::BuildTrace(..) => true,
            ObjectKey::CacheInfo
            | ObjectKey::Nar(..)
            | ObjectKey::DebugInfo(_)
            | ObjectKey::Pin(_)
            | ObjectKey::Generation(..) => false,
        };
        let encoded = is_metadata && self.metadata_encoding == MetadataEncoding::Zstd;
        encoded.then_some("zstd")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(texts: &[&str]) -> String {
        let mut headers = HeaderByKind::default();
        let added = texts.iter().try_for_each(|text| headers.add(text));
        added.unwrap_err()
    }

    #[test]
    fn what_is_given_for_a_kind_holds_for_that_kind_alone() {
        let mut headers = HeaderByKind::default();
        headers.add("narinfo=public, max-age=60").unwrap();
        headers.add("listing=").unwrap();
        headers.add("realisation=no-store").unwrap();
        let key = |key: &str| key.parse::<ObjectKey>().unwrap();
        let path = "26xbg1ndr7hbcncrlf9nhx5is2b25d13";
        let get = |name: String| headers.get(&key(&name), "usual").to_owned();
        assert_eq!(get(format!("{path}.narinfo")), "public, max-age=60");
        assert_eq!(get(format!("{path}.ls")), "");
        assert_eq!(get(format!("build-trace-v2/{path}-x.drv/out.doi")), "no-store");
        assert_eq!(get(format!("realisations/sha256:{}!out.doi", "0".repeat(64))), "no-store");
        assert_eq!(get(format!("log/{path}-x.drv")), "usual");
    }

    #[test]
    fn what_can_be_no_header_is_refused_in_words() {
        assert!(error(&["narinfo"]).contains("KIND=VALUE"));
        assert!(error(&["pin=no-cache"]).contains("none of nar, narinfo, listing"));
        assert!(error(&["nar=a", "nar=b"]).contains("more than once"));
        for bad in ["nar=a\r\nx: y", "nar=ä", "nar=a\tb", "nar=a  b"] {
            assert!(error(&[bad]).contains("visible ASCII"), "{bad:?}");
        }
        let long = format!("nar={}", "x".repeat(MAX_VALUE));
        HeaderByKind::default().add(&long).unwrap();
        assert!(error(&[&format!("{long}x")]).contains("the limit is 256"));
    }
}
