//! A tree of files → the events of a NAR and its listing, in one pass.
//!
//! Every step goes from the descriptor of the folder above and follows no symlink, so what is
//! exchanged meanwhile cannot lead the walk out of the tree.

use std::{
    collections::BTreeMap,
    ffi::CString,
    io::Write,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use niks3_core::listing::{Directory, Node, Regular, Symlink};
use nix_archive::nar::Encoder;
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags},
    io::Errno,
};

use super::{NotUtf8, PackError, tee::Count};

/// Bytes of files read at once. A file up to this size is one read.
const READ_BYTES: usize = 256 * 1024;

/// What Nix appends to names that differ only in case, where the file system cannot tell them
/// apart: macOS.
const CASE_HACK: &[u8] = b"~nix~case~hack~";

/// What to do about the contents of files.
#[derive(Clone, Copy)]
pub(super) enum Contents {
    /// They are read.
    Read,
    /// Zeros stand in for them: enough to know where each file would begin.
    Skip,
}

/// Writes the tree at `root` to `writer` as a NAR, and returns its listing. `written` counts what
/// `writer` takes.
pub(super) fn walk<W: Write>(
    root: &Path,
    contents: Contents,
    writer: Count<W>,
    cancel: &AtomicBool,
) -> Result<(Result<Node, NotUtf8>, W), PackError> {
    let position = writer.position();
    let encoder = Encoder::new(writer).map_err(|error| encoding(root, error))?;
    let mut walk = Walk {
        encoder,
        position: &|| position.get(),
        contents,
        cancel,
        buffer: vec![0; READ_BYTES],
        path: root.to_owned(),
        root_bytes: root.as_os_str().len(),
        not_utf8: None,
    };
    let name =
        CString::new(root.as_os_str().as_bytes()).map_err(|_| walk.failed("open", Errno::INVAL))?;
    let node = walk.node(CWD, &name, None, FileType::Unknown)?;
    let writer = walk.encoder.finish().map_err(|error| encoding(root, error))?;
    Ok((walk.not_utf8.map_or(Ok(node), Err), writer.into_inner()))
}

struct Walk<'a, W> {
    encoder: Encoder<Count<W>>,
    /// Bytes of the NAR so far.
    position: &'a dyn Fn() -> u64,
    contents: Contents,
    cancel: &'a AtomicBool,
    buffer: Vec<u8>,
    /// Where the walk is, for errors.
    path: PathBuf,
    root_bytes: usize,
    /// The first name or symlink target that no listing can have.
    not_utf8: Option<NotUtf8>,
}

/// An entry of a folder.
struct Child {
    /// In the NAR. Differs from `file` only where the case hack was at work.
    name: Vec<u8>,
    file: CString,
    kind: FileType,
}

impl<W: Write> Walk<'_, W> {
    /// `name` is its name in the NAR; the root has none. `kind` is a guess, which spares a call.
    fn node(
        &mut self,
        folder: BorrowedFd<'_>,
        file: &CString,
        name: Option<&[u8]>,
        kind: FileType,
    ) -> Result<Node, PackError> {
        self.still_wanted()?;
        let kind = match kind {
            FileType::Unknown => {
                let stat = rustix::fs::statat(folder, file, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|error| self.failed("look at", error))?;
                FileType::from_raw_mode(stat.st_mode)
            }
            kind => kind,
        };
        match kind {
            FileType::Directory => self.directory(folder, file, name).map(Node::Directory),
            FileType::RegularFile => self.regular(folder, file, name).map(Node::Regular),
            FileType::Symlink => self.symlink(folder, file, name).map(Node::Symlink),
            other => {
                let kind = match other {
                    FileType::Fifo => "a pipe",
                    FileType::Socket => "a socket",
                    FileType::CharacterDevice | FileType::BlockDevice => "a device",
                    _ => "no file, folder or symlink",
                };
                Err(PackError::Unsupported { file: self.path.clone(), kind })
            }
        }
    }

    fn directory(
        &mut self,
        folder: BorrowedFd<'_>,
        file: &CString,
        name: Option<&[u8]>,
    ) -> Result<Directory, PackError> {
        let opened = self.open(folder, file, OFlags::DIRECTORY)?;
        self.encoder.start_directory(name).map_err(|error| encoding(&self.path, error))?;
        let mut reader = Dir::new(opened).map_err(|error| self.failed("list", error))?;
        let children = self.children(&mut reader)?;
        let here = reader.fd().map_err(|error| self.failed("list", error))?;
        let mut entries = BTreeMap::new();
        for child in children {
            self.path.push(std::ffi::OsStr::from_bytes(child.file.as_bytes()));
            let text = self.text(child.name.clone());
            let node = self.node(here.as_fd(), &child.file, Some(&child.name), child.kind)?;
            self.path.pop();
            entries.insert(text, node);
        }
        self.encoder.end_directory().map_err(|error| encoding(&self.path, error))?;
        Ok(Directory { entries })
    }

    /// In the byte order of their names, as a NAR has them.
    fn children(&self, reader: &mut Dir) -> Result<Vec<Child>, PackError> {
        let mut children = Vec::new();
        for entry in reader {
            let entry = entry.map_err(|error| self.failed("list", error))?;
            let file = entry.file_name();
            if !matches!(file.to_bytes(), b"." | b"..") {
                let name = archive_name(file.to_bytes(), cfg!(target_os = "macos")).to_vec();
                children.push(Child { name, file: file.to_owned(), kind: entry.file_type() });
            }
        }
        children.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(children)
    }

    fn regular(
        &mut self,
        folder: BorrowedFd<'_>,
        file: &CString,
        name: Option<&[u8]>,
    ) -> Result<Regular, PackError> {
        let (opened, stat) = match self.contents {
            Contents::Read => {
                // A pipe that took the file's place would keep us waiting without NONBLOCK.
                let opened = self.open(folder, file, OFlags::NONBLOCK | OFlags::NOCTTY)?;
                let stat = rustix::fs::fstat(&opened);
                (Some(opened), stat)
            }
            Contents::Skip => (None, rustix::fs::statat(folder, file, AtFlags::SYMLINK_NOFOLLOW)),
        };
        let stat = stat.map_err(|error| self.failed("look at", error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(PackError::Changed { file: self.path.clone() });
        }
        let executable = Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR);
        self.file(opened.as_ref(), name, executable, stat.st_size as u64)
    }

    /// Writes the file `opened`, of which it is known that it has `size` bytes. Without one, its
    /// contents are skipped.
    fn file(
        &mut self,
        opened: Option<&OwnedFd>,
        name: Option<&[u8]>,
        executable: bool,
        size: u64,
    ) -> Result<Regular, PackError> {
        let encoded = |error| encoding(&self.path, error);
        let mut into = self.encoder.start_regular(name, executable, size).map_err(encoded)?;
        let nar_offset = (self.position)();
        let mut rest = size;
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(PackError::Cancelled);
            }
            let wanted = self.buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            let filled = match opened {
                None => wanted,
                // One byte more than there should be, so that growth is seen without another read.
                Some(opened) => {
                    let wanted = self.buffer.len().min(wanted.saturating_add(1));
                    fill(opened, &mut self.buffer[..wanted], rest).map_err(|error| {
                        let (file, source) = (self.path.clone(), error.into());
                        PackError::Read { file, what: "read", source }
                    })?
                }
            };
            if filled as u64 > rest || (filled == 0 && rest > 0) {
                return Err(PackError::Changed { file: self.path.clone() });
            }
            into.write_all(&self.buffer[..filled]).map_err(|source| PackError::Write { source })?;
            rest -= filled as u64;
            // A full buffer tells nothing about what comes after it.
            if rest == 0 && (opened.is_none() || filled < self.buffer.len()) {
                break;
            }
        }
        into.finish().map_err(encoded)?;
        Ok(Regular { executable, nar_offset, size })
    }

    fn symlink(
        &mut self,
        folder: BorrowedFd<'_>,
        file: &CString,
        name: Option<&[u8]>,
    ) -> Result<Symlink, PackError> {
        let target = rustix::fs::readlinkat(folder, file, Vec::new())
            .map_err(|error| self.failed("read the symlink", error))?;
        self.encoder
            .symlink(name, target.as_bytes())
            .map_err(|error| encoding(&self.path, error))?;
        Ok(Symlink { target: self.text(target.into_bytes()) })
    }

    fn open(
        &self,
        folder: BorrowedFd<'_>,
        file: &CString,
        flags: OFlags,
    ) -> Result<OwnedFd, PackError> {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(folder, file, flags, Mode::empty()).map_err(|error| match error {
            // It is a symlink by now, no folder any more, or a socket.
            Errno::LOOP | Errno::NOTDIR | Errno::NXIO => {
                PackError::Changed { file: self.path.clone() }
            }
            error => self.failed("open", error),
        })
    }

    /// What the listing has for `bytes`. If it can have nothing, there will be no listing.
    fn text(&mut self, bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap_or_else(|error| {
            let path = self.path.as_os_str().as_bytes();
            let below = String::from_utf8_lossy(&path[self.root_bytes.min(path.len())..]);
            let name = below.trim_start_matches('/').to_owned();
            self.not_utf8.get_or_insert(NotUtf8 { name });
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        })
    }

    fn still_wanted(&self) -> Result<(), PackError> {
        if self.cancel.load(Ordering::Relaxed) { Err(PackError::Cancelled) } else { Ok(()) }
    }

    fn failed(&self, what: &'static str, error: Errno) -> PackError {
        PackError::Read { file: self.path.clone(), what, source: error.into() }
    }
}

/// Reads until `buffer` is full or the file ends: what goes into the compressor at once must
/// depend on the contents alone. A read that brings no more than the `rest` that is to come,
/// though there was room, has met the end.
fn fill(file: &OwnedFd, buffer: &mut [u8], rest: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    loop {
        match rustix::io::read(file, &mut buffer[filled..]) {
            Ok(0) => return Ok(filled),
            Ok(bytes) => filled += bytes,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        if filled == buffer.len() || filled as u64 == rest {
            return Ok(filled);
        }
    }
}

/// The name that a file has in the NAR: with the case hack, without its suffix.
fn archive_name(file: &[u8], case_hack: bool) -> &[u8] {
    let suffix = case_hack
        .then(|| file.windows(CASE_HACK.len()).position(|part| part == CASE_HACK))
        .flatten();
    &file[..suffix.unwrap_or(file.len())]
}

fn encoding(file: &Path, error: nix_archive::nar::Error) -> PackError {
    match error {
        // The encoder reads nothing: what failed is what it writes to.
        nix_archive::nar::Error::Io(source) => PackError::Write { source },
        source => PackError::Encode { file: file.to_owned(), source: Box::new(source) },
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn sink() -> Count<Vec<u8>> {
        Count::new(Vec::new())
    }

    fn packed(root: &Path) -> Result<(Result<Node, NotUtf8>, Vec<u8>), PackError> {
        walk(root, Contents::Read, sink(), &AtomicBool::new(false))
    }

    /// What `file` does with a file of `actual` bytes that is said to have `size`.
    fn with_wrong_size(actual: usize, size: u64) -> Result<Regular, PackError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![b'x'; actual]).unwrap();
        let writer = sink();
        let position = writer.position();
        let cancel = AtomicBool::new(false);
        let mut walk = Walk {
            encoder: Encoder::new(writer).unwrap(),
            position: &|| position.get(),
            contents: Contents::Read,
            cancel: &cancel,
            buffer: vec![0; READ_BYTES],
            path: file.path().to_owned(),
            root_bytes: 0,
            not_utf8: None,
        };
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
    fn a_symlink_that_took_the_place_of_a_file_or_folder_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("secret")).unwrap();
        symlink("secret", folder.path().join("link")).unwrap();
        symlink("/etc/passwd", folder.path().join("passwd")).unwrap();
        let here = rustix::fs::open(folder.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        let cancel = AtomicBool::new(false);
        for (name, kind) in [("link", FileType::Directory), ("passwd", FileType::RegularFile)] {
            let mut walk = Walk {
                encoder: Encoder::new(sink()).unwrap(),
                position: &|| 0,
                contents: Contents::Read,
                cancel: &cancel,
                buffer: vec![0; READ_BYTES],
                path: name.into(),
                root_bytes: 0,
                not_utf8: None,
            };
            // The guess was right a moment ago.
            let node = walk.node(here.as_fd(), &CString::new(name).unwrap(), None, kind);
            assert!(matches!(node, Err(PackError::Changed { .. })), "{node:?}");
        }
    }

    #[test]
    fn a_pipe_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        let pipe = folder.path().join("sub/pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let error = packed(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("{pipe:?} is a pipe, which no NAR can hold"));
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("a")).unwrap();
        let error = packed(folder.path()).unwrap_err();
        assert!(matches!(error, PackError::Unsupported { kind: "a socket", .. }), "{error}");
    }

    #[test]
    fn nesting_beyond_what_a_nar_can_have_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let deep = ["d"; 62].join("/");
        fs::create_dir_all(folder.path().join(&deep)).unwrap();
        assert!(packed(folder.path()).is_ok());
        fs::create_dir_all(folder.path().join(deep).join("e/f")).unwrap();
        let error = packed(folder.path()).unwrap_err();
        assert!(matches!(error, PackError::Encode { .. }), "{error}");
    }

    #[test]
    fn the_suffix_of_the_case_hack_goes_only_where_there_is_one() {
        let hacked = b"Name~nix~case~hack~12".as_slice();
        assert_eq!(archive_name(hacked, true), b"Name");
        assert_eq!(archive_name(hacked, false), hacked);
        assert_eq!(archive_name(b"Name", true), b"Name");
    }

    #[test]
    fn a_cancelled_walk_stops() {
        let folder = tempfile::tempdir().unwrap();
        let stopped = walk(folder.path(), Contents::Read, sink(), &AtomicBool::new(true));
        assert!(matches!(stopped, Err(PackError::Cancelled)));
    }
}
