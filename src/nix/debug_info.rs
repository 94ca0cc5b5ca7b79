//! Debug files in a store path, which debuggers look for by their build ids.
//!
//! What counts is what Nix's `index-debug-info` takes: regular files in real folders. Every step goes
//! from the descriptor of the folder above, and no symlink is followed.

use std::{
    ffi::CStr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use niks3_core::debug_info::{BuildId, DEBUG_FOLDER};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags},
    io::Errno,
};

/// The build ids of the debug files in the store path whose files are at `real_path`, sorted.
///
/// # Errors
/// When a folder cannot be read. That there is none is no error.
pub fn build_ids(real_path: &Path) -> std::io::Result<Vec<BuildId>> {
    let Some(mut folder) = subfolder(CWD, real_path)? else { return Ok(Vec::new()) };
    for name in DEBUG_FOLDER.split('/') {
        let Some(next) = subfolder(folder.as_fd(), name)? else { return Ok(Vec::new()) };
        folder = next;
    }
    let mut ids = Vec::new();
    entries(folder, FileType::Directory, |folder, name| {
        let Some(files) = (name.to_bytes().len() == 2).then(|| subfolder(folder, name)) else {
            return Ok(());
        };
        let Some(files) = files? else { return Ok(()) };
        entries(files, FileType::RegularFile, |_, file| {
            ids.extend(
                name.to_str()
                    .ok()
                    .zip(file.to_str().ok())
                    .and_then(|(name, file)| BuildId::of_file(name, file)),
            );
            Ok(())
        })
    })?;
    ids.sort_unstable();
    Ok(ids)
}

/// A folder in a folder; none if it is something else, or not there.
fn subfolder(
    folder: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Calls `each` with the folder and the name of every entry of that kind.
fn entries(
    folder: OwnedFd,
    kind: FileType,
    mut each: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut names = Vec::new();
    let mut reader = Dir::new(folder)?;
    while let Some(entry) = reader.read() {
        let entry = entry?;
        names.push((entry.file_name().to_owned(), entry.file_type()));
    }
    let folder = reader.fd()?;
    for (name, listed) in names {
        let actual = match listed {
            FileType::Unknown => {
                let stat = rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            listed => listed,
        };
        if actual == kind {
            each(folder, &name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    const REST: &str = "cdef0123456789abcdef0123456789abcdef01.debug";

    fn texts(root: &Path) -> Vec<String> {
        build_ids(root).unwrap().iter().map(BuildId::to_string).collect()
    }

    #[test]
    fn only_regular_files_in_real_folders_are_debug_files() {
        let store = tempfile::tempdir().unwrap();
        let root = store.path().join("path");
        let ids = root.join("lib/debug/.build-id");
        for folder in ["ab", "01", "AB", "abc", "zz"] {
            fs::create_dir_all(ids.join(folder)).unwrap();
            fs::write(ids.join(folder).join(REST), "x").unwrap();
        }
        fs::write(ids.join("ab").join("short.debug"), "x").unwrap();
        symlink(ids.join("ab").join(REST), ids.join("ab").join(REST.replace("cdef", "0000")))
            .unwrap();
        fs::create_dir(ids.join("01").join(REST.replace("cdef", "0000"))).unwrap();
        symlink("ab", ids.join("cd")).unwrap();
        fs::write(ids.join("ef"), "x").unwrap();
        let rest = REST.strip_suffix(".debug").unwrap();
        assert_eq!(texts(&root), [format!("01{rest}"), format!("ab{rest}")]);
    }

    #[test]
    fn nothing_is_found_beyond_a_symlink_or_where_nothing_is() {
        let store = tempfile::tempdir().unwrap();
        let real = store.path().join("real");
        fs::create_dir_all(real.join("lib/debug/.build-id/ab")).unwrap();
        fs::write(real.join("lib/debug/.build-id/ab").join(REST), "x").unwrap();
        assert_eq!(texts(&real).len(), 1);
        let (linked, file) = (store.path().join("linked"), store.path().join("file"));
        fs::create_dir(&linked).unwrap();
        symlink(real.join("lib"), linked.join("lib")).unwrap();
        fs::write(&file, "x").unwrap();
        symlink(&real, store.path().join("link")).unwrap();
        for none in [linked, file, store.path().join("link"), store.path().join("gone")] {
            assert_eq!(texts(&none), [""; 0], "{none:?}");
        }
    }
}
