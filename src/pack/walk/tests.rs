use std::{fs, os::unix::fs::symlink};

use super::*;

fn sink() -> Count<Vec<u8>> {
    Count::new(Vec::new())
}

const HOW: How = How { contents: Contents::Read, case_hack: false };

fn walked(root: &Path) -> Result<Walked<Vec<u8>>, PackError> {
    walk(root, HOW, sink(), &AtomicBool::new(false))
}

/// A walk that has begun at `path`.
fn begun<'a>(path: &Path, cancel: &'a AtomicBool) -> Walk<'a, Vec<u8>> {
    Walk {
        encoder: Encoder::new(sink()).unwrap(),
        position: &|| 0,
        how: HOW,
        cancel,
        buffer: vec![0; READ_BYTES],
        path: path.to_owned(),
        root_bytes: 0,
        not_utf8: None,
        changed: None,
    }
}

/// What `file` does with a file of `actual` bytes that is said to have `size`.
fn with_wrong_size(actual: usize, size: u64) -> Result<Regular, PackError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), vec![b'x'; actual]).unwrap();
    let cancel = AtomicBool::new(false);
    let mut walk = begun(file.path(), &cancel);
    let opened = file.reopen().unwrap().into();
    walk.file(Some(&opened), None, false, size)
}

#[test]
fn a_file_that_grows_or_shrinks_while_it_is_read_is_an_error() {
    for size in [0, 1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 2 * READ_BYTES] {
        let actual = size as u64;
        assert_eq!(with_wrong_size(size, actual).unwrap().size, actual);
        let grown = with_wrong_size(size + 1, actual);
        assert!(matches!(grown, Err(PackError::Changed { .. })), "{size}: {grown:?}");
        let shrunk = with_wrong_size(size, actual + 1);
        assert!(matches!(shrunk, Err(PackError::Changed { .. })), "{size}: {shrunk:?}");
    }
}

#[test]
fn what_took_the_place_of_a_file_folder_or_symlink_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("secret")).unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    symlink("secret", folder.path().join("link")).unwrap();
    symlink("/etc/passwd", folder.path().join("passwd")).unwrap();
    let here = rustix::fs::open(folder.path(), OFlags::RDONLY, Mode::empty()).unwrap();
    let cancel = AtomicBool::new(false);
    for (name, kind) in [
        ("link", FileType::Directory),
        ("file", FileType::Directory),
        ("passwd", FileType::RegularFile),
        ("secret", FileType::RegularFile),
        ("file", FileType::Symlink),
    ] {
        // The guess was right a moment ago.
        let mut walk = begun(Path::new(name), &cancel);
        let node = walk.node(here.as_fd(), &CString::new(name).unwrap(), None, kind);
        assert!(matches!(node, Err(PackError::Changed { .. })), "{name}: {node:?}");
    }
    for kind in [FileType::Directory, FileType::RegularFile, FileType::Symlink, FileType::Unknown] {
        let node = begun(Path::new("gone"), &cancel).node(here.as_fd(), c"gone", None, kind);
        assert!(matches!(node, Err(PackError::Gone { .. })), "{node:?}");
    }
}

#[test]
fn a_pipe_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    let pipe = folder.path().join("sub/pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let error = walked(folder.path()).err().unwrap();
    assert_eq!(error.to_string(), format!("{pipe:?} is a pipe, which no NAR can hold"));
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("a")).unwrap();
    let error = walked(folder.path()).unwrap_err();
    assert!(matches!(error, PackError::Unsupported { kind: "a socket", .. }), "{error}");
    let error = walked(Path::new("/dev/null")).unwrap_err();
    assert!(matches!(error, PackError::Unsupported { kind: "a device", .. }), "{error}");
}

#[test]
fn nesting_beyond_what_nix_reads_is_an_error_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let deep = ["d"; 62].join("/");
    fs::create_dir_all(folder.path().join(&deep)).unwrap();
    fs::write(folder.path().join(&deep).join("file"), "x").unwrap();
    assert!(walked(folder.path()).is_ok());
    let deeper = folder.path().join(deep).join("e/f");
    fs::create_dir_all(&deeper).unwrap();
    let error = walked(folder.path()).unwrap_err();
    let text = "lies in 64 folders, each in the next: Nix reads no NAR like that";
    assert_eq!(error.to_string(), format!("{deeper:?} {text}"));
    assert!(error.hint().is_some());
}

#[test]
fn a_folder_from_which_something_is_taken_meanwhile_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).unwrap();
    fs::write(sub.join("first"), "x").unwrap();
    assert_eq!(walked(folder.path()).unwrap().changed, None);
    /// Takes the file away when it has been read.
    struct Deleting<'a>(&'a Path);
    impl Write for Deleting<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if bytes.starts_with(b"x") {
                // The time of a change is that of the last tick of a clock.
                std::thread::sleep(std::time::Duration::from_millis(20));
                fs::remove_file(self.0)?;
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let first = sub.join("first");
    let writer = Count::new(Deleting(&first));
    let walked = walk(folder.path(), HOW, writer, &AtomicBool::new(false));
    assert_eq!(walked.ok().unwrap().changed, Some(sub));
}

#[test]
fn a_cancelled_walk_stops() {
    let folder = tempfile::tempdir().unwrap();
    let stopped = walk(folder.path(), HOW, sink(), &AtomicBool::new(true));
    assert!(matches!(stopped, Err(PackError::Cancelled)));
}
