//! Comparing file trees.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

/// Both are the same as far as a NAR knows: kinds, names, contents, executable bits, targets.
#[track_caller]
pub fn assert_same_tree(a: &Path, b: &Path) {
    let kind = |path: &Path| fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let (left, right) = (kind(a), kind(b));
    assert_eq!(left.file_type(), right.file_type(), "{a:?} {b:?}");
    if left.is_symlink() {
        assert_eq!(fs::read_link(a).unwrap(), fs::read_link(b).unwrap(), "{a:?}");
    } else if left.is_dir() {
        let names = |path: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(a), names(b), "{a:?} {b:?}");
        for name in names(a) {
            assert_same_tree(&a.join(&name), &b.join(&name));
        }
    } else {
        assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap(), "{a:?}");
        let executable = |mode: u32| mode & 0o100 != 0;
        assert_eq!(
            executable(left.permissions().mode()),
            executable(right.permissions().mode()),
            "{a:?}"
        );
    }
}
