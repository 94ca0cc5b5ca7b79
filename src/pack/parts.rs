//! A large NAR as a stream of parts: each can be sent while the next one is packed.

use std::{
    cell::Cell,
    io::{self, Write},
    path::Path,
    rc::Rc,
    sync::atomic::AtomicBool,
};

use niks3_core::hash::{BodyChecksum, ChecksumAlgorithm, FileHash};

use super::{Expected, Listing, PackError, PackOptions, compress, tee::FileTee};

/// One part of a compressed NAR.
#[derive(Debug)]
pub struct Part<B> {
    /// From 1 on.
    pub number: u16,
    /// Its bytes, in the buffer that the sink gave.
    pub buffer: B,
    /// What the store checks it by.
    pub checksum: BodyChecksum,
    /// Bytes of the NAR that were read for it, more or less: the compressor is ahead of it.
    pub nar_bytes: u64,
}

/// Where parts go. Both calls may block, and an error of either ends the packing.
pub trait PartSink {
    /// What a part is kept in: memory that has been reserved for it.
    type Buffer: AsMut<Vec<u8>>;

    /// An empty buffer for the next part.
    ///
    /// # Errors
    /// When the parts are wanted no more.
    fn buffer(&mut self) -> io::Result<Self::Buffer>;

    /// Takes a part.
    ///
    /// # Errors
    /// When the parts are wanted no more.
    fn take(&mut self, part: Part<Self::Buffer>) -> io::Result<()>;
}

/// A compressed NAR that is what Nix recorded, and whose parts were taken.
#[derive(Debug)]
pub struct PackedParts {
    /// Bytes of all parts.
    pub bytes: u64,
    /// Their SHA-256.
    pub file_hash: FileHash,
    /// The listing of the NAR.
    pub listing: Listing,
}

/// Packs the files at `real_path` into parts of `part_bytes`, the last one excepted, with `workers`
/// threads that compress: at least one. All parts together depend on the contents and the level
/// alone, not on the number of threads.
///
/// # Errors
/// When the files cannot be read, or are not what Nix recorded: the parts that were taken until then
/// are of no use.
pub fn pack_parts<S: PartSink>(
    real_path: &Path,
    expected: &Expected,
    options: &PackOptions,
    (part_bytes, workers): (u64, u32),
    sink: S,
    cancel: &AtomicBool,
) -> Result<PackedParts, PackError> {
    let write = |source| PackError::Write { source };
    let position = Rc::<Cell<u64>>::default();
    let parts = Cut {
        sink,
        part_bytes: part_bytes as usize,
        checksum: options.checksum,
        number: 0,
        filling: None,
        position: Rc::clone(&position),
        told: 0,
    };
    // The whole is hashed for its FileHash; checksums are those of the parts.
    let body = FileTee::new(parts, ChecksumAlgorithm::Sha256);
    let mut zstd = zstd::Encoder::new(body, options.level).map_err(write)?;
    zstd.multithread(workers.max(1)).map_err(write)?;
    let (listing, body) = compress(real_path, expected, options, zstd, (position, cancel))?;
    let (mut parts, file_hash, _, bytes) = body.finish();
    parts.end().map_err(write)?;
    Ok(PackedParts { bytes, file_hash, listing })
}

/// Cuts what is written into parts.
struct Cut<S: PartSink> {
    sink: S,
    part_bytes: usize,
    checksum: ChecksumAlgorithm,
    /// Of the last part that was taken.
    number: u16,
    filling: Option<S::Buffer>,
    /// How far the NAR is, and how much of that earlier parts have told.
    position: Rc<Cell<u64>>,
    told: u64,
}

impl<S: PartSink> Cut<S> {
    fn end(&mut self) -> io::Result<()> {
        let Some(mut buffer) = self.filling.take() else { return Ok(()) };
        let bytes = buffer.as_mut();
        let checksum = BodyChecksum::of(self.checksum, bytes);
        // The size of a part is chosen so that this does not happen.
        self.number = self.number.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        let nar_bytes = self.position.get() - self.told;
        self.told = self.position.get();
        self.sink.take(Part { number: self.number, buffer, checksum, nar_bytes })
    }
}

impl<S: PartSink> Write for Cut<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let buffer = match &mut self.filling {
            Some(buffer) => buffer,
            empty => empty.insert(self.sink.buffer()?),
        };
        let buffer = buffer.as_mut();
        let taken = bytes.len().min(self.part_bytes - buffer.len());
        buffer.extend_from_slice(&bytes[..taken]);
        if buffer.len() == self.part_bytes {
            self.end()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, fs};

    use md5::{Digest as _, Md5};
    use niks3_core::hash::BodyMd5;
    use sha2::Sha256;

    use super::super::tests::{OPTIONS, noise, recorded};
    use super::*;

    type Taken = Rc<RefCell<Vec<Part<Buffer>>>>;

    #[derive(Debug)]
    struct Buffer(Vec<u8>);

    impl AsMut<Vec<u8>> for Buffer {
        fn as_mut(&mut self) -> &mut Vec<u8> {
            &mut self.0
        }
    }

    struct Sink(Taken);

    impl PartSink for Sink {
        type Buffer = Buffer;

        fn buffer(&mut self) -> io::Result<Buffer> {
            Ok(Buffer(Vec::new()))
        }

        fn take(&mut self, part: Part<Buffer>) -> io::Result<()> {
            self.0.borrow_mut().push(part);
            Ok(())
        }
    }

    fn packed(path: &Path, part_bytes: u64, workers: u32) -> (PackedParts, Vec<Part<Buffer>>) {
        let (taken, expected) = (Taken::default(), recorded(path));
        let (cut, sink) = ((part_bytes, workers), Sink(Rc::clone(&taken)));
        let packed =
            pack_parts(path, &expected, &OPTIONS, cut, sink, &AtomicBool::new(false)).unwrap();
        (packed, taken.take())
    }

    #[test]
    fn the_parts_are_one_body_whatever_their_size_and_the_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("noise");
        fs::write(&file, noise(2_500_000)).unwrap();
        let mut bodies = Vec::new();
        for (part_bytes, workers) in [(1 << 20, 1), (1 << 20, 3), (700_001, 2), (1 << 23, 2)] {
            let (packed, parts) = packed(&file, part_bytes, workers);
            let sizes: Vec<_> = parts.iter().map(|part| part.buffer.0.len() as u64).collect();
            let (last, full) = sizes.split_last().unwrap();
            assert!(full.iter().all(|bytes| *bytes == part_bytes) && *last <= part_bytes);
            assert_eq!(sizes.iter().sum::<u64>(), packed.bytes);
            for (part, number) in parts.iter().zip(1..) {
                let md5 = BodyMd5::new(Md5::digest(&part.buffer.0).into());
                assert_eq!((part.number, part.checksum), (number, BodyChecksum::Md5(md5)));
            }
            let body: Vec<u8> = parts.into_iter().flat_map(|part| part.buffer.0).collect();
            assert_eq!(FileHash::new(Sha256::digest(&body).into()), packed.file_hash);
            bodies.push(body);
        }
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "the body depends on more than its contents");
        let mut nar = Vec::new();
        let native = nix_archive::nar::CaseHack::native();
        nix_archive::nar::encode_path(&mut nar, &file, native).unwrap();
        assert_eq!(zstd::decode_all(bodies[0].as_slice()).unwrap(), nar);
    }
}
