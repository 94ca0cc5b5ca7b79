//! A tree of files → the events of a NAR and its listing, in one pass.
//!
//! Every step goes from the descriptor of the folder above and follows no symlink, so what is
//! exchanged meanwhile cannot lead the walk out of the tree.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
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

use super::{
    NotUtf8, PackError,
    folder::{Stamp, children},
    tee::Count,
};

/// Bytes of files read at once. A file up to this size is one read.
const READ_BYTES: usize = 256 * 1024;

/// How to walk.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub(super) contents: Contents,
    /// Whether Nix's case hack is undone: see [`PackOptions`](super::PackOptions).
    pub(super) case_hack: bool,
}

/// What to do about the contents of files.
#[derive(Clone, Copy)]
pub(super) enum Contents {
    /// They are read.
    Read,
    /// Zeros stand in for them: enough to know where each file would begin.
    Skip,
}

/// What a walk has brought.
#[derive(Debug)]
pub(super) struct Walked<W> {
    pub(super) listing: Result<Node, NotUtf8>,
    pub(super) writer: W,
    /// The first folder to which or from which something was moved meanwhile. `nix-store --optimise`
    /// does that and changes no NAR, so it is no error by itself.
    pub(super) changed: Option<PathBuf>,
}

/// Writes the tree at `root` to `writer` as a NAR.
pub(super) fn walk<W: Write>(
    root: &Path,
    how: How,
    writer: Count<W>,
    cancel: &AtomicBool,
) -> Result<Walked<W>, PackError> {
    let position = writer.position();
    let encoder = Encoder::new(writer).map_err(|error| encoding(root, error))?;
    let mut walk = Walk {
        encoder,
        position: &|| position.get(),
        how,
        cancel,
        buffer: vec![0; READ_BYTES],
        path: root.to_owned(),
        root_bytes: root.as_os_str().len(),
        not_utf8: None,
        changed: None,
    };
    let name =
        CString::new(root.as_os_str().as_bytes()).map_err(|_| walk.failed("open", Errno::INVAL))?;
    let node = walk.node(CWD, &name, None, FileType::Unknown)?;
    let writer = walk.encoder.finish().map_err(|error| encoding(root, error))?.into_inner();
    Ok(Walked { listing: walk.not_utf8.map_or(Ok(node), Err), writer, changed: walk.changed })
}

struct Walk<'a, W> {
    encoder: Encoder<Count<W>>,
    /// Bytes of the NAR so far.
    position: &'a dyn Fn() -> u64,
    how: How,
    cancel: &'a AtomicBool,
    buffer: Vec<u8>,
    /// Where the walk is, for errors.
    path: PathBuf,
    root_bytes: usize,
    /// The first name or symlink target that no listing can have.
    not_utf8: Option<NotUtf8>,
    /// See [`Walked::changed`].
    changed: Option<PathBuf>,
}

impl<W: Write> Walk<'_, W> {
    /// `name` is its name in the NAR; the root has none. `kind` is a guess, which spares a call.
    fn node(
        &mut self,
        folder: BorrowedFd<'_>,
        file: &CStr,
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
        file: &CStr,
        name: Option<&[u8]>,
    ) -> Result<Directory, PackError> {
        let opened = self.open(folder, file, OFlags::DIRECTORY)?;
        self.encoder.start_directory(name).map_err(|error| encoding(&self.path, error))?;
        let mut reader = Dir::new(opened).map_err(|error| self.failed("list", error))?;
        let before = Stamp::of(&reader).map_err(|error| self.failed("look at", error))?;
        let children = children(&mut reader, &self.path, self.how.case_hack)?;
        let here = reader.fd().map_err(|error| self.failed("list", error))?;
        let mut entries = BTreeMap::new();
        for child in children {
            self.path.push(std::ffi::OsStr::from_bytes(child.file.as_bytes()));
            let text = self.text(child.name().to_vec());
            let node = self.node(here.as_fd(), &child.file, Some(child.name()), child.kind)?;
            self.path.pop();
            entries.insert(text, node);
        }
        if self.changed.is_none() && Stamp::of(&reader).ok() != Some(before) {
            self.changed = Some(self.path.clone());
        }
        self.encoder.end_directory().map_err(|error| encoding(&self.path, error))?;
        Ok(Directory { entries })
    }

    fn regular(
        &mut self,
        folder: BorrowedFd<'_>,
        file: &CStr,
        name: Option<&[u8]>,
    ) -> Result<Regular, PackError> {
        let (opened, stat) = match self.how.contents {
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
                    fill(opened, &mut self.buffer[..wanted], rest)
                        .map_err(|error| PackError::reading(&self.path, "read", error))?
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
        file: &CStr,
        name: Option<&[u8]>,
    ) -> Result<Symlink, PackError> {
        let target =
            rustix::fs::readlinkat(folder, file, Vec::new()).map_err(|error| match error {
                // It is no symlink any more.
                Errno::INVAL => PackError::Changed { file: self.path.clone() },
                error => self.failed("read the symlink", error),
            })?;
        self.encoder
            .symlink(name, target.as_bytes())
            .map_err(|error| encoding(&self.path, error))?;
        Ok(Symlink { target: self.text(target.into_bytes()) })
    }

    fn open(
        &self,
        folder: BorrowedFd<'_>,
        file: &CStr,
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
        PackError::reading(&self.path, what, error)
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

fn encoding(file: &Path, error: nix_archive::nar::Error) -> PackError {
    let file = file.to_owned();
    match error {
        // The encoder reads nothing: what failed is what it writes to.
        nix_archive::nar::Error::Io(source) => PackError::Write { source },
        nix_archive::nar::Error::MaxDepth(most) => PackError::TooDeep { file, most },
        source => PackError::Encode { file, source: Box::new(source) },
    }
}

#[cfg(test)]
mod tests;
