//! A build log → the body that is sent.

use std::{
    io::{self, Read, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use niks3_core::{hash::BodyChecksum, limits::MAX_LOG_BYTES, wire::MetadataEncoding};
use tempfile::SpooledTempFile;

use super::{Body, CHUNK_BYTES, MAX_BODY_IN_MEMORY, PackOptions, tee::FileTee};

/// A log that can be sent.
#[derive(Debug)]
pub struct PackedLog {
    /// The log, encoded.
    pub body: Body,
    /// Its bytes.
    pub bytes: u64,
    /// What the store checks it by.
    pub checksum: BodyChecksum,
}

/// Why a log cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It is gone, damaged or was cut short.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// More than [`MAX_LOG_BYTES`].
    #[error("it has more than {} MiB", MAX_LOG_BYTES / (1024 * 1024))]
    TooLarge,
    /// There is no room for temporary files, for one.
    #[error("it cannot be compressed")]
    Write(#[source] io::Error),
    /// The push is over.
    #[error("the push is over")]
    Cancelled,
}

/// Reads `log` to its end and encodes it. `cancel` stops it soon, between two reads.
///
/// # Errors
/// When it cannot be read to its end, or is too large: then nothing is kept.
pub fn pack_log(
    log: &mut dyn Read,
    encoding: MetadataEncoding,
    options: &PackOptions,
    cancel: &AtomicBool,
) -> Result<PackedLog, LogError> {
    let body = FileTee::new(SpooledTempFile::new(MAX_BODY_IN_MEMORY), options.checksum);
    let body = match encoding {
        MetadataEncoding::None => copy(log, body, cancel)?,
        MetadataEncoding::Zstd => {
            let zstd = zstd::Encoder::new(body, options.level).map_err(LogError::Write)?;
            copy(log, zstd, cancel)?.finish().map_err(LogError::Write)?
        }
    };
    let (body, file_hash, checksum, bytes) = body.finish();
    // A text that does not compress becomes a little larger.
    if bytes > MAX_LOG_BYTES {
        return Err(LogError::TooLarge);
    }
    let body = Body::new(body).map_err(LogError::Write)?;
    Ok(PackedLog { body, bytes, checksum: checksum.of_body(file_hash) })
}

fn copy<W: Write>(log: &mut dyn Read, mut to: W, cancel: &AtomicBool) -> Result<W, LogError> {
    let (mut chunk, mut total) = (vec![0; CHUNK_BYTES], 0);
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(LogError::Cancelled);
        }
        match log.read(&mut chunk) {
            Ok(0) => return Ok(to),
            Ok(bytes) => {
                total += bytes as u64;
                if total > MAX_LOG_BYTES {
                    return Err(LogError::TooLarge);
                }
                to.write_all(&chunk[..bytes]).map_err(LogError::Write)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LogError::Read(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use niks3_core::hash::ChecksumAlgorithm;

    use super::{super::tests::noise, *};

    const OPTIONS: PackOptions =
        PackOptions { level: 3, checksum: ChecksumAlgorithm::Md5, case_hack: false };

    fn pack(log: &mut dyn Read, encoding: MetadataEncoding) -> Result<PackedLog, LogError> {
        pack_log(log, encoding, &OPTIONS, &AtomicBool::new(false))
    }

    #[test]
    fn a_log_is_the_same_text_in_either_encoding() {
        for text in [String::new(), "building\n".repeat(100_000)] {
            let plain = pack(&mut text.as_bytes(), MetadataEncoding::None).unwrap();
            let zstd = pack(&mut text.as_bytes(), MetadataEncoding::Zstd).unwrap();
            let (Body::Memory(plain_body), Body::Memory(body)) = (plain.body, zstd.body) else {
                panic!("they are small")
            };
            assert!(plain_body == text.as_bytes());
            assert!(zstd::decode_all(body.as_slice()).unwrap() == text.as_bytes());
            assert_eq!(zstd.bytes, body.len() as u64);
            assert_eq!(zstd.checksum, BodyChecksum::of(ChecksumAlgorithm::Md5, &body));
        }
    }

    #[test]
    fn a_log_beyond_the_limit_is_refused_before_it_is_read_to_its_end() {
        for encoding in [MetadataEncoding::None, MetadataEncoding::Zstd] {
            let error = pack(&mut io::repeat(b'x'), encoding).unwrap_err();
            assert!(matches!(error, LogError::TooLarge), "{error}");
            assert_eq!(error.to_string(), "it has more than 64 MiB");
            let mut most = io::repeat(b'x').take(MAX_LOG_BYTES);
            assert!(pack(&mut most, encoding).is_ok());
        }
        // Within the limit as text, but not as zstd's.
        let noise = noise(MAX_LOG_BYTES as usize);
        let error = pack(&mut noise.as_slice(), MetadataEncoding::Zstd).unwrap_err();
        assert!(matches!(error, LogError::TooLarge));
    }

    #[test]
    fn what_ends_a_log_early_is_told_apart() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        let error = pack(&mut Broken, MetadataEncoding::Zstd).unwrap_err();
        assert!(matches!(error, LogError::Read(_)));
        let cancelled = AtomicBool::new(true);
        let error = pack_log(&mut io::empty(), MetadataEncoding::None, &OPTIONS, &cancelled);
        assert!(matches!(error, Err(LogError::Cancelled)));
    }
}
