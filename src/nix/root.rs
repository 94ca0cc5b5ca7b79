//! One store path that the cache may have, and this machine need not.

use niks3_core::store_path::StorePath;

use super::{
    NixCommand, StoreSettings,
    installable::{InstallableError, look_up},
};

/// The one store path that `text` names: its whole path or base name, whether it is in a store here or
/// not, a file inside one, a link, or a flake reference, which `nix` builds. A derivation is itself and
/// not its outputs: what a pin keeps is said exactly.
///
/// # Errors
/// When it names none, or several.
pub fn resolve_root(settings: &StoreSettings, text: &str) -> Result<StorePath, InstallableError> {
    if let Ok(path) = text.parse() {
        return Ok(path);
    }
    if let Some(path) = look_up(text, settings)? {
        return Ok(path);
    }
    let mut paths = NixCommand::new(settings).build(&[text]).map_err(|error| {
        InstallableError::Nix { texts: vec![text.to_owned()], source: Box::new(error) }
    })?;
    paths.sort();
    paths.dedup();
    match <[StorePath; 1]>::try_from(paths) {
        Ok([path]) => Ok(path),
        Err(paths) => Err(InstallableError::NotOne { text: text.to_owned(), paths }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12.1";

    #[test]
    fn a_path_need_not_be_in_a_store_here() {
        let settings = StoreSettings::new(Some("/does/not/exist"), |_| None).unwrap();
        let derivation = format!("{NAME}.drv");
        for (text, path) in [
            (NAME.to_owned(), NAME),
            (format!("/nix/store/{NAME}"), NAME),
            (format!("/nix/store/{NAME}/bin/hello"), NAME),
            (derivation.clone(), &derivation),
            (format!("/nix/store/{derivation}"), &derivation),
        ] {
            assert_eq!(resolve_root(&settings, &text).unwrap().to_string(), path, "{text}");
        }
    }

    #[test]
    fn a_link_is_followed_and_what_names_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings::new(Some("/does/not/exist"), |_| None).unwrap();
        let link = folder.path().join("result");
        std::os::unix::fs::symlink(format!("/nix/store/{NAME}"), &link).unwrap();
        let path = resolve_root(&settings, link.to_str().unwrap()).unwrap();
        assert_eq!(path.to_string(), NAME);
        for text in ["", "/nix/store/nonsense", "./no/such/file"] {
            assert!(resolve_root(&settings, text).is_err(), "{text:?}");
        }
    }
}
