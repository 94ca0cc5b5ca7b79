//! Writers that watch what passes.

use std::{
    cell::Cell,
    io::{self, Write},
    rc::Rc,
};

use md5::Md5;
use niks3_core::hash::{BodyChecksum, BodyMd5, ChecksumAlgorithm, FileHash};
use sha2::{Digest as _, Sha256};

/// Counts the bytes that go through.
pub(super) struct Count<W> {
    inner: W,
    position: Rc<Cell<u64>>,
}

impl<W> Count<W> {
    pub(super) fn new(inner: W) -> Self {
        Self::with(inner, Rc::default())
    }

    /// Counts into `position`.
    pub(super) fn with(inner: W, position: Rc<Cell<u64>>) -> Self {
        Self { inner, position }
    }

    /// The count, to be read while the writer is in other hands.
    pub(super) fn position(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.position)
    }

    pub(super) fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: Write> Write for Count<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.position.set(self.position.get() + written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Counts and hashes a NAR on its way to `inner`, and passes on no more than the NAR should have:
/// of a path that has become larger than Nix recorded, the rest is hashed for the error message
/// and kept nowhere.
pub(super) struct NarTee<W> {
    inner: W,
    sha256: Sha256,
    bytes: u64,
    expected_bytes: u64,
}

impl<W> NarTee<W> {
    pub(super) fn new(inner: W, expected_bytes: u64) -> Self {
        Self { inner, sha256: Sha256::new(), bytes: 0, expected_bytes }
    }

    /// What the NAR went to, its SHA-256, and its size.
    pub(super) fn finish(self) -> (W, [u8; 32], u64) {
        (self.inner, self.sha256.finalize().into(), self.bytes)
    }
}

impl<W: Write> Write for NarTee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
        if self.bytes <= self.expected_bytes {
            self.inner.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Counts and hashes the compressed NAR on its way to `inner`.
pub(super) struct FileTee<W> {
    inner: W,
    sha256: Sha256,
    /// `None`: the body is checked by its SHA-256.
    md5: Option<Md5>,
    bytes: u64,
}

/// What a whole body is checked by.
pub(super) enum Checksum {
    Md5(BodyMd5),
    IsTheFileHash,
}

impl Checksum {
    /// That of a body with this SHA-256.
    pub(super) fn of_body(self, sha256: FileHash) -> BodyChecksum {
        match self {
            Self::Md5(md5) => BodyChecksum::Md5(md5),
            Self::IsTheFileHash => BodyChecksum::Sha256(sha256),
        }
    }
}

impl<W> FileTee<W> {
    pub(super) fn new(inner: W, checksum: ChecksumAlgorithm) -> Self {
        let md5 = (checksum == ChecksumAlgorithm::Md5).then(Md5::new);
        Self { inner, sha256: Sha256::new(), md5, bytes: 0 }
    }

    /// What the bytes went to, their SHA-256, what they are checked by, and how many they were.
    pub(super) fn finish(self) -> (W, FileHash, Checksum, u64) {
        let checksum = match self.md5 {
            Some(md5) => Checksum::Md5(BodyMd5::new(md5.finalize().into())),
            None => Checksum::IsTheFileHash,
        };
        (self.inner, FileHash::new(self.sha256.finalize().into()), checksum, self.bytes)
    }
}

impl<W: Write> Write for FileTee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.sha256.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
