//! A store path → its NAR, hashed, compressed and hashed again, with its listing, in one pass: as one
//! body, or as a stream of parts.
//!
//! All of it blocks; call it where that is fine. Memory does not follow the size of the NAR.

mod error;
mod folder;
mod log;
mod memory;
mod parts;
mod tee;
mod walk;

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufWriter, Seek as _, Write},
    path::Path,
    rc::Rc,
    sync::atomic::AtomicBool,
};

use niks3_core::{
    hash::{BodyChecksum, ChecksumAlgorithm, FileHash, NarHash},
    listing::Node,
    store_path::StorePath,
};
use tempfile::{SpooledData, SpooledTempFile};

use tee::{Count, FileTee, NarTee};
use walk::{Contents, How, Walked, walk};

pub use error::{Damaged, PackError};
pub use log::{LogError, PackedLog, pack_log};
pub use memory::{compressor_bytes, most_workers};
pub use parts::{PackedParts, Part, PartSink, pack_parts};

/// Bytes of a compressed NAR that stay in memory. A larger one goes into a temporary file.
pub const MAX_BODY_IN_MEMORY: usize = 8 * 1024 * 1024;

/// Bytes that are hashed and compressed at once: the small pieces of a NAR are gathered first.
const CHUNK_BYTES: usize = 128 * 1024;

/// What Nix recorded of the path to be packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The path.
    pub path: StorePath,
    /// Hash of its NAR.
    pub nar_hash: NarHash,
    /// Bytes of its NAR.
    pub nar_size: u64,
}

/// How to pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackOptions {
    /// Of zstd, 1 to 19. The same contents give the same body at the same level.
    pub level: i32,
    /// What the body, or each part, is to be checked by.
    pub checksum: ChecksumAlgorithm,
    /// Whether Nix's case hack is undone: a file `Name~nix~case~hack~1` is `Name` in the NAR. As it was
    /// set for the Nix that unpacked the path; else the NAR is another one.
    pub case_hack: bool,
}

/// A compressed NAR that is what Nix recorded.
#[derive(Debug)]
pub struct Packed {
    /// The compressed NAR.
    pub body: Body,
    /// Its bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub file_hash: FileHash,
    /// What the store checks it by.
    pub checksum: BodyChecksum,
    /// The listing of the NAR.
    pub listing: Listing,
}

/// Where a compressed NAR is kept until it is sent.
#[derive(Debug)]
pub enum Body {
    /// Up to [`MAX_BODY_IN_MEMORY`].
    Memory(Vec<u8>),
    /// In the folder for temporary files, without a name there; at its beginning.
    File(File),
}

/// The listing of a NAR, if it can have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The `.ls` file.
    Json(String),
    /// There is none.
    NotUtf8(NotUtf8),
}

/// A file whose name, or symlink whose target, is not UTF-8, so no JSON can hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUtf8 {
    /// Its path within the store path, as far as it can be read. Empty for the root itself.
    pub name: String,
}

/// Packs the files at `real_path`. `cancel` stops it soon, between two reads.
///
/// The body depends on the contents and the level alone.
///
/// # Errors
/// When the files cannot be read, or are not what Nix recorded: then nothing is kept.
pub fn pack(
    real_path: &Path,
    expected: &Expected,
    options: &PackOptions,
    cancel: &AtomicBool,
) -> Result<Packed, PackError> {
    let write = |source| PackError::Write { source };
    let body = FileTee::new(SpooledTempFile::new(MAX_BODY_IN_MEMORY), options.checksum);
    let zstd = zstd::Encoder::new(body, options.level).map_err(write)?;
    let (listing, body) = compress(real_path, expected, options, zstd, (Rc::default(), cancel))?;
    let (body, file_hash, checksum, bytes) = body.finish();
    Ok(Packed {
        body: Body::new(body).map_err(write)?,
        bytes,
        file_hash,
        checksum: checksum.of_body(file_hash),
        listing,
    })
}

/// Writes the NAR of `real_path` through `zstd`, and makes sure that it is what Nix recorded.
/// `position` is how far it is.
fn compress<W: Write>(
    real_path: &Path,
    expected: &Expected,
    options: &PackOptions,
    mut zstd: zstd::Encoder<'static, W>,
    (position, cancel): (Rc<Cell<u64>>, &AtomicBool),
) -> Result<(Listing, W), PackError> {
    let write = |source| PackError::Write { source };
    zstd.include_checksum(true).map_err(write)?;
    zstd.set_pledged_src_size(Some(expected.nar_size)).map_err(write)?;

    let nar = BufWriter::with_capacity(CHUNK_BYTES, NarTee::new(zstd, expected.nar_size));
    let how = How { contents: Contents::Read, case_hack: options.case_hack };
    let Walked { listing, writer, changed } =
        walk(real_path, how, Count::with(nar, position), cancel)?;
    let nar = writer.into_inner().map_err(|error| write(error.into_error()))?;
    let (zstd, actual, actual_bytes) = nar.finish();
    let actual = NarHash::new(actual);
    // Before zstd is finished, which would complain of a size that is not the pledged one.
    if actual != expected.nar_hash || actual_bytes != expected.nar_size {
        if let Some(file) = changed {
            return Err(PackError::Changed { file });
        }
        return Err(PackError::Damaged(Box::new(Damaged {
            path: expected.path.clone(),
            recorded: expected.nar_hash,
            recorded_bytes: expected.nar_size,
            actual,
            actual_bytes,
        })));
    }
    Ok((Listing::new(listing), zstd.finish().map_err(write)?))
}

/// The listing alone, of the NAR that the files at `real_path` would make. Reads no contents.
///
/// # Errors
/// When a folder, a size or a symlink cannot be read, or the NAR would have another size than Nix
/// recorded: the listing would be wrong.
pub fn list(
    real_path: &Path,
    expected: &Expected,
    options: &PackOptions,
    cancel: &AtomicBool,
) -> Result<Listing, PackError> {
    let how = How { contents: Contents::Skip, case_hack: options.case_hack };
    let nar = Count::new(io::sink());
    let position = nar.position();
    let walked = walk(real_path, how, nar, cancel)?;
    if position.get() != expected.nar_size {
        return Err(match walked.changed {
            Some(file) => PackError::Changed { file },
            None => PackError::Resized {
                path: expected.path.clone(),
                recorded_bytes: expected.nar_size,
                actual_bytes: position.get(),
            },
        });
    }
    Ok(Listing::new(walked.listing))
}

impl Body {
    fn new(body: SpooledTempFile) -> io::Result<Self> {
        Ok(match body.into_inner() {
            SpooledData::InMemory(body) => {
                // It grew by doubling; only what it has was reserved.
                let mut body = body.into_inner();
                body.shrink_to_fit();
                Self::Memory(body)
            }
            SpooledData::OnDisk(mut file) => {
                file.rewind()?;
                Self::File(file)
            }
        })
    }
}

impl Listing {
    fn new(listing: Result<Node, NotUtf8>) -> Self {
        match listing {
            Ok(root) => Self::Json(root.to_json()),
            Err(not_utf8) => Self::NotUtf8(not_utf8),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs, io::Read as _, os::unix::ffi::OsStrExt as _};

    use niks3_core::hash::BodyMd5;
    use sha2::{Digest as _, Sha256};

    use super::*;

    pub(super) const OPTIONS: PackOptions =
        PackOptions { level: 3, checksum: ChecksumAlgorithm::Md5, case_hack: false };

    /// What Nix would have recorded of `path`, by nix-archive's own walk.
    pub(super) fn recorded(path: &Path) -> Expected {
        let nar = nix_archive::nar::hash_path(path, nix_archive::nar::CaseHack::native()).unwrap();
        Expected {
            path: "00000000000000000000000000000000-a".parse().unwrap(),
            nar_hash: NarHash::new(nar.sha256),
            nar_size: nar.size,
        }
    }

    fn packed(path: &Path, expected: &Expected) -> Result<Packed, PackError> {
        pack(path, expected, &OPTIONS, &AtomicBool::new(false))
    }

    fn bytes(body: Body) -> Vec<u8> {
        match body {
            Body::Memory(bytes) => bytes,
            Body::File(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                bytes
            }
        }
    }

    /// Bytes that do not compress, the same ones each time.
    pub(super) fn noise(bytes: usize) -> Vec<u8> {
        let blocks = (0..bytes.div_ceil(32) as u64).map(|n| Sha256::digest(n.to_le_bytes()));
        let mut noise: Vec<u8> = blocks.flatten().collect();
        noise.truncate(bytes);
        noise
    }

    #[test]
    fn the_body_is_the_nar_and_its_hashes_are_those_of_the_body() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        fs::write(folder.path().join("noise"), noise(700_000)).unwrap();
        let expected = recorded(folder.path());
        let first = packed(folder.path(), &expected).unwrap();
        let again = packed(folder.path(), &expected).unwrap();
        assert_eq!(
            (first.bytes, first.file_hash, first.checksum),
            (again.bytes, again.file_hash, again.checksum)
        );
        let (length, file_hash, md5) = (first.bytes, first.file_hash, first.checksum);
        let body = bytes(first.body);
        assert_eq!(body.len() as u64, length);
        assert_eq!(FileHash::new(Sha256::digest(&body).into()), file_hash);
        let expected = BodyMd5::new(md5::Md5::digest(&body).into());
        assert_eq!(md5, BodyChecksum::Md5(expected));
        let mut nar = Vec::new();
        let native = nix_archive::nar::CaseHack::native();
        nix_archive::nar::encode_path(&mut nar, folder.path(), native).unwrap();
        assert_eq!(zstd::decode_all(body.as_slice()).unwrap(), nar);
        // The frame says its size, and has a checksum (bit 2 of the descriptor): RFC 8878, 3.1.1.
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&body).unwrap(), Some(nar.len() as u64));
        assert_ne!(body[4] & 4, 0);
    }

    #[test]
    fn a_large_body_is_in_a_file_and_a_small_one_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("noise");
        fs::write(&file, noise(MAX_BODY_IN_MEMORY - 1000)).unwrap();
        let small = packed(&file, &recorded(&file)).unwrap();
        assert!(matches!(&small.body, Body::Memory(body) if body.len() as u64 == small.bytes));
        fs::write(&file, noise(MAX_BODY_IN_MEMORY + 1000)).unwrap();
        let large = packed(&file, &recorded(&file)).unwrap();
        assert!(matches!(large.body, Body::File(_)));
        let body = bytes(large.body);
        assert_eq!(FileHash::new(Sha256::digest(&body).into()), large.file_hash);
    }

    #[test]
    fn the_listing_alone_is_the_one_of_packing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b/empty")).unwrap();
        fs::write(folder.path().join("a/b.txt"), noise(300_001)).unwrap();
        fs::write(folder.path().join("a/x"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
        let expected = recorded(folder.path());
        let packed = packed(folder.path(), &expected).unwrap();
        assert!(matches!(packed.listing, Listing::Json(_)));
        let list = || list(folder.path(), &expected, &OPTIONS, &AtomicBool::new(false));
        assert_eq!(list().unwrap(), packed.listing);
        fs::write(folder.path().join("a/x"), "grown").unwrap();
        let error = list().unwrap_err();
        assert!(matches!(error, PackError::Resized { .. }) && error.hint().is_some(), "{error}");
    }

    #[test]
    fn a_name_that_is_not_utf8_is_packed_but_not_listed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub").join(OsStr::from_bytes(b"latin1-\xe4")), "x").unwrap();
        let result = packed(folder.path(), &recorded(folder.path())).unwrap();
        let name = "sub/latin1-\u{fffd}".to_owned();
        assert_eq!(result.listing, Listing::NotUtf8(NotUtf8 { name }));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(OsStr::from_bytes(b"\xff"), &link).unwrap();
        let result = packed(&link, &recorded(&link)).unwrap();
        assert_eq!(result.listing, Listing::NotUtf8(NotUtf8 { name: String::new() }));
    }

    #[test]
    fn a_path_that_is_not_what_nix_recorded_is_refused_with_both_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        for (before, after) in
            [("same size", "size same"), ("short", "much longer than that"), ("longer", "")]
        {
            fs::write(&file, before).unwrap();
            let expected = recorded(&file);
            fs::write(&file, after).unwrap();
            let now = recorded(&file);
            let error = packed(&file, &expected).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "00000000000000000000000000000000-a is damaged: Nix recorded {} ({} bytes), \
                     its files hash to {} ({} bytes)",
                    expected.nar_hash, expected.nar_size, now.nar_hash, now.nar_size
                )
            );
        }
    }

    #[test]
    fn a_path_that_is_gone_and_a_cancelled_one_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let expected = recorded(folder.path());
        let gone = folder.path().join("gone");
        let error = packed(&gone, &expected).unwrap_err();
        assert_eq!(error.to_string(), format!("{gone:?} is gone"));
        assert!(error.hint().unwrap().contains("collected"));
        let error = pack(folder.path(), &expected, &OPTIONS, &AtomicBool::new(true)).unwrap_err();
        assert!(matches!(error, PackError::Cancelled));
    }
}
