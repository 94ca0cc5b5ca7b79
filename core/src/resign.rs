//! Other signatures for what was signed before: after a change of keys.
//!
//! A narinfo is edited line by line: whatever else it says stays as it is, byte by byte.

use std::collections::BTreeSet;

use nix_narinfo::NarInfo;

use crate::{
    realisation::{OutputId, Realisation, RealisationError},
    signing::{Signature, SigningKey},
    store_path::StoreDir,
};

/// Whose signatures shall go, and whose shall be there.
#[derive(Debug)]
pub struct Resigning {
    /// Names of keys of which signatures are removed. Those of one that is among `keys` too are made anew.
    pub remove: Vec<String>,
    /// Each of these signs.
    pub keys: Vec<SigningKey>,
}

/// Why a text cannot be signed otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ResignError {
    /// It is no narinfo.
    #[error("it is no narinfo")]
    NarInfo(#[from] nix_narinfo::ParseError),
    /// It is no realisation.
    #[error(transparent)]
    Realisation(#[from] RealisationError),
    /// No reader would believe it.
    #[error("it would have no signature at all")]
    Unsigned,
}

impl Resigning {
    /// The text of a narinfo with other signatures; `None` where it has exactly those already.
    ///
    /// # Errors
    /// When it is no narinfo, or would have no signature and no content address either.
    pub fn narinfo(&self, store_dir: &StoreDir, text: &str) -> Result<Option<String>, ResignError> {
        const FIELD: &str = "Sig:";
        let read = NarInfo::parse_in(store_dir, text.as_bytes())?;
        let before: BTreeSet<Signature> =
            read.signatures().iter().cloned().map(Signature::from_nix).collect();
        let after = self.signatures(&before, &read.fingerprint(store_dir));
        if after == before {
            return Ok(None);
        }
        if after.is_empty() && !read.is_content_addressed(store_dir) {
            return Err(ResignError::Unsigned);
        }
        let signatures: String = after.iter().map(|one| format!("{FIELD} {one}\n")).collect();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        // Where they were, or where Nix has them: before the content address, which is last.
        let place = lines
            .iter()
            .position(|line| line.starts_with(FIELD))
            .or_else(|| lines.iter().position(|line| line.starts_with("CA:")))
            .unwrap_or(lines.len());
        let mut signed = String::with_capacity(text.len() + signatures.len());
        for (n, line) in lines.iter().enumerate() {
            if n == place {
                signed.push_str(&signatures);
            }
            if !line.starts_with(FIELD) {
                signed.push_str(line);
            }
        }
        if place == lines.len() {
            signed.push_str(&signatures);
        }
        Ok(Some(signed))
    }

    /// The same of the realisation of `id`.
    ///
    /// # Errors
    /// When it is none, is another output's, or would have no signature.
    pub fn realisation(&self, id: &OutputId, text: &str) -> Result<Option<String>, ResignError> {
        let read = Realisation::parse(id, text)?;
        let after = self.signatures(&read.signatures, &read.fingerprint());
        if after == read.signatures {
            return Ok(None);
        }
        if after.is_empty() {
            return Err(ResignError::Unsigned);
        }
        Ok(Some(Realisation { signatures: after, ..read }.compose(&[])))
    }

    fn signatures(&self, before: &BTreeSet<Signature>, fingerprint: &str) -> BTreeSet<Signature> {
        let kept =
            before.iter().filter(|one| !self.remove.iter().any(|name| name == one.key_name()));
        kept.cloned().chain(self.keys.iter().map(|key| key.sign(fingerprint))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> SigningKey {
        SigningKey::from_seed(name, &[name.len() as u8; 32]).unwrap()
    }

    fn resigning(remove: &[&str], keys: &[&str]) -> Resigning {
        let remove = remove.iter().map(ToString::to_string).collect();
        Resigning { remove, keys: keys.iter().map(|name| key(name)).collect() }
    }

    /// A narinfo with these lines at its end, after those of a field that nobody knows.
    fn narinfo(end: &str) -> String {
        let hash = "sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h";
        format!(
            "StorePath: /nix/store/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello\nURL: nar/x.nar.zst\n\
             Compression: zstd\nFileHash: {hash}\nFileSize: 7\nNarHash: {hash}\nNarSize: 112\n\
             References: \nLater: of a later Nix\n{end}"
        )
    }

    fn signed(resigning: &Resigning, text: &str) -> Option<String> {
        resigning.narinfo(&StoreDir::default(), text).unwrap()
    }

    fn names(text: &str) -> Vec<&str> {
        let values = text.lines().filter_map(|line| line.strip_prefix("Sig: "));
        values.filter_map(|value| Some(value.split_once(':')?.0)).collect()
    }

    #[test]
    fn a_key_is_added_and_another_removed_and_nothing_else_changes() {
        let first = signed(&resigning(&[], &["a"]), &narinfo("")).unwrap();
        assert!(first.starts_with(&narinfo("")), "{first}");
        let both = signed(&resigning(&[], &["bb"]), &first).unwrap();
        assert_eq!(names(&both), ["a", "bb"]);
        assert_eq!(signed(&resigning(&[], &["bb"]), &both), None);
        assert_eq!(signed(&resigning(&["c"], &["a"]), &both), None);
        let second = signed(&resigning(&["a"], &["bb"]), &both).unwrap();
        assert_eq!(names(&second), ["bb"]);
        // In one step it comes to the same, and another order of keys does too.
        assert_eq!(signed(&resigning(&["a"], &["bb"]), &first).unwrap(), second);
        assert_eq!(signed(&resigning(&[], &["bb", "a"]), &narinfo("")).unwrap(), both);
        let unsigned: String =
            second.split_inclusive('\n').filter(|line| !line.starts_with("Sig")).collect();
        assert_eq!(unsigned, narinfo(""));
    }

    #[test]
    fn a_key_that_was_made_anew_under_its_old_name_signs_anew() {
        let first = signed(&resigning(&[], &["a"]), &narinfo("")).unwrap();
        let again = SigningKey::from_seed("a", &[9; 32]).unwrap();
        let anew = Resigning { remove: vec!["a".to_owned()], keys: vec![again] };
        let second = signed(&anew, &first).unwrap();
        assert_eq!(names(&second), ["a"]);
        assert_ne!(first, second);
        assert_eq!(signed(&anew, &second), None);
    }

    #[test]
    fn what_no_reader_would_believe_is_refused() {
        let first = signed(&resigning(&[], &["a"]), &narinfo("")).unwrap();
        let refused = resigning(&["a"], &[]).narinfo(&StoreDir::default(), &first);
        assert!(matches!(refused, Err(ResignError::Unsigned)), "{refused:?}");
        assert!(resigning(&[], &["a"]).narinfo(&StoreDir::default(), "no narinfo").is_err());
    }

    #[test]
    fn signatures_stand_where_nix_has_them() {
        // The content address of /nix/store/26xb… is another one: it is signed like the rest.
        let ca = "CA: fixed:r:sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h\n";
        let first = signed(&resigning(&[], &["a"]), &narinfo(ca)).unwrap();
        assert!(first.ends_with(ca) && names(&first) == ["a"], "{first}");
        let both = signed(&resigning(&[], &["bb"]), &first).unwrap();
        assert!(both.ends_with(ca) && names(&both) == ["a", "bb"], "{both}");
    }

    #[test]
    fn realisations_of_both_layouts_are_signed_anew() {
        let path: crate::store_path::StorePath =
            "gr49bqdy1hdd36m4zn9rcz4cm1vjkms4-ca-top".parse().unwrap();
        for id in [
            format!("sha256:{}!out", "4a".repeat(32)),
            "w1jdz6lradmj5dgyxzyl1wlgk9w7fvrn-ca-top.drv^out".to_owned(),
        ] {
            let id: OutputId = id.parse().unwrap();
            let realisation = Realisation {
                id: id.clone(),
                path: path.clone(),
                dependencies: [].into(),
                signatures: BTreeSet::new(),
            };
            let first = realisation.compose(&[key("a")]);
            let second = resigning(&["a"], &["bb"]).realisation(&id, &first).unwrap().unwrap();
            assert_eq!(second, realisation.compose(&[key("bb")]), "{id}");
            assert_eq!(resigning(&[], &["bb"]).realisation(&id, &second).unwrap(), None);
            let refused = resigning(&["a"], &[]).realisation(&id, &first);
            assert!(matches!(refused, Err(ResignError::Unsigned)), "{refused:?}");
        }
    }
}
