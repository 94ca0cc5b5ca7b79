//! What is in a folder, by the names and in the order that a NAR has them.

use std::{
    ffi::{CString, OsStr},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use rustix::{
    fs::{Dir, FileType},
    io::Errno,
};

use super::PackError;

/// What Nix appends, with a number, to names that differ only in case, where the file system cannot
/// tell them apart: macOS. <https://nix.dev/manual/nix/latest/command-ref/conf-file#conf-use-case-hack>
const CASE_HACK: &[u8] = b"~nix~case~hack~";

/// An entry of a folder.
pub(super) struct Child {
    pub(super) file: CString,
    /// What may be a guess: it can have changed since.
    pub(super) kind: FileType,
    /// Of `file`, what the NAR has of it: all, but where the case hack was at work.
    name_bytes: usize,
}

impl Child {
    /// In the NAR.
    pub(super) fn name(&self) -> &[u8] {
        &self.file.as_bytes()[..self.name_bytes]
    }
}

/// In the byte order of their names. `folder` is for errors.
pub(super) fn children(
    reader: &mut Dir,
    folder: &Path,
    case_hack: bool,
) -> Result<Vec<Child>, PackError> {
    let mut children = Vec::new();
    for entry in reader {
        let entry = entry.map_err(|error| PackError::reading(folder, "list", error))?;
        let file = entry.file_name();
        if !matches!(file.to_bytes(), b"." | b"..") {
            let name_bytes = name_bytes(file.to_bytes(), case_hack);
            children.push(Child { file: file.to_owned(), kind: entry.file_type(), name_bytes });
        }
    }
    children.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    if let Some([a, b]) = children.windows(2).find(|pair| pair[0].name() == pair[1].name()) {
        let named = |child: &Child| folder.join(OsStr::from_bytes(child.file.as_bytes()));
        let (mut one, mut other) = (named(a), named(b));
        if one > other {
            (one, other) = (other, one);
        }
        return Err(PackError::Collision { one, other });
    }
    Ok(children)
}

/// How much of a file's name the NAR has: with the case hack, what is before its suffix.
fn name_bytes(file: &[u8], case_hack: bool) -> usize {
    let suffix = case_hack
        .then(|| file.windows(CASE_HACK.len()).position(|part| part == CASE_HACK))
        .flatten();
    suffix.unwrap_or(file.len())
}

/// When something was last moved into or out of a folder, more or less.
#[derive(PartialEq, Eq)]
pub(super) struct Stamp(i64, i64);

impl Stamp {
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)] // Not i64 on every system.
    pub(super) fn of(folder: &Dir) -> Result<Self, Errno> {
        let stat = folder.stat()?;
        Ok(Self(stat.st_ctime as i64, stat.st_ctime_nsec as i64))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, Mode, OFlags};

    use super::*;

    fn names(folder: &Path, case_hack: bool) -> Result<Vec<(String, String)>, PackError> {
        let opened = rustix::fs::openat(CWD, folder, OFlags::RDONLY, Mode::empty()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let children = children(&mut Dir::new(opened).unwrap(), folder, case_hack)?;
        Ok(children.iter().map(|c| (text(c.name()), text(c.file.as_bytes()))).collect())
    }

    #[test]
    fn with_the_case_hack_names_lose_its_suffix_and_are_sorted_without_it() {
        let folder = tempfile::tempdir().unwrap();
        // Without the suffix "Name" is before "Name!", with it it is behind.
        let files = ["Name~nix~case~hack~12", "Name!", "name", "x~nix~case~hack~1~nix~case~hack~2"];
        for file in files {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let pair = |name: &str, file: &str| (name.to_owned(), file.to_owned());
        let hacked = [
            pair("Name", files[0]),
            pair("Name!", files[1]),
            pair("name", files[2]),
            pair("x", files[3]),
        ];
        assert_eq!(names(folder.path(), true).unwrap(), hacked);
        let as_they_are = [files[1], files[0], files[2], files[3]].map(|file| pair(file, file));
        assert_eq!(names(folder.path(), false).unwrap(), as_they_are);
    }

    #[test]
    fn two_files_that_get_one_name_are_an_error_with_both() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["a~nix~case~hack~1", "b", "a"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let error = names(folder.path(), true).unwrap_err();
        let (one, other) = (folder.path().join("a"), folder.path().join("a~nix~case~hack~1"));
        assert!(error.to_string().starts_with(&format!("{one:?} and {other:?} have one name")));
        assert!(error.hint().unwrap().contains("use-case-hack"));
        assert!(names(folder.path(), false).is_ok());
    }
}
