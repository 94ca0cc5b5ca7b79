//! Part sizes of a multipart upload.

/// Parts that one multipart upload can have at S3.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
pub const MAX_PARTS: u16 = 10_000;

/// Bytes of the largest part that S3 takes.
pub const MAX_PART_BYTES: u64 = 5 * 1024 * MIB;

/// Bytes of our smallest part. S3 would take 5 MiB; 8 MiB are fewer requests and still little to
/// send again, and 10,000 of them hold 78 GiB.
pub const MIN_PART_BYTES: u64 = 8 * MIB;

const MIB: u64 = 1024 * 1024;

/// Not even 10,000 parts of 5 GiB would hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a NAR of {nar_size} bytes may be too large for S3, which takes 10,000 parts of 5 GiB")]
pub struct TooLarge {
    /// Bytes of the NAR, uncompressed.
    pub nar_size: u64,
}

/// Bytes of each part of the compressed NAR of `nar_size` bytes, the last one excepted, which may
/// be smaller: all of one size, as Cloudflare R2 wants it. A whole number of MiB.
///
/// # Errors
/// [`TooLarge`]
pub fn part_bytes(nar_size: u64) -> Result<u64, TooLarge> {
    let bytes = largest_compressed(nar_size)
        .div_ceil(u64::from(MAX_PARTS))
        .next_multiple_of(MIB)
        .max(MIN_PART_BYTES);
    if bytes > MAX_PART_BYTES { Err(TooLarge { nar_size }) } else { Ok(bytes) }
}

/// What `nar_size` bytes that do not compress may become: zstd adds 3 bytes for each block of
/// 128 KiB, and a header.
fn largest_compressed(nar_size: u64) -> u64 {
    nar_size.saturating_add(nar_size / 1024).saturating_add(64 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_hold_whatever_a_nar_becomes() {
        for nar_size in [0, 1, 100 * MIB, 78 * 1024 * MIB, 5 << 40, 45 << 40] {
            let part = part_bytes(nar_size).unwrap();
            assert!((MIN_PART_BYTES..=MAX_PART_BYTES).contains(&part), "{nar_size}: {part}");
            assert!(part * u64::from(MAX_PARTS) >= largest_compressed(nar_size), "{nar_size}");
            assert_eq!(part % MIB, 0);
        }
        assert_eq!(part_bytes(10 << 30), Ok(8 * MIB));
        assert_eq!(part_bytes(1 << 40), Ok(105 * MIB));
    }

    #[test]
    fn what_s3_cannot_hold_is_refused() {
        assert_eq!(part_bytes(60 << 40), Err(TooLarge { nar_size: 60 << 40 }));
        assert!(part_bytes(u64::MAX).is_err());
    }
}
