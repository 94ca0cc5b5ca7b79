//! What zstd takes. Measured with zstd 1.5.7 on contexts that had worked on more than their window;
//! rounded up. A test compares.

const MIB: u64 = 1024 * 1024;

/// Bytes that compressing takes at a level from 1 to 19: on the thread that packs (`workers` 0), or
/// with threads of its own.
#[must_use]
pub fn compressor_bytes(level: i32, workers: u32) -> u64 {
    let alone = match level {
        ..=3 => 4,
        4..=8 => 8,
        9 => 18,
        10..=11 => 28,
        12..=13 => 50,
        14..=16 => 72,
        17.. => 96,
    };
    let each = match level {
        ..=4 => 24,
        5..=10 => 45,
        11.. => 90,
    };
    // One more: what is read for the next job and what the last one gave lie beside the jobs.
    MIB * if workers == 0 { alone } else { each * (u64::from(workers) + 1) }
}

/// How many threads can compress one NAR within `bytes`: at least one, whatever it takes.
#[must_use]
pub fn most_workers(level: i32, bytes: u64, wanted: u32) -> u32 {
    let fits = |workers: &u32| compressor_bytes(level, *workers) <= bytes;
    (1..=wanted).rev().find(fits).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

    use super::*;

    /// What zstd itself says that it took.
    fn taken(level: i32, workers: u32) -> u64 {
        let mut zstd = CCtx::create();
        zstd.set_parameter(CParameter::CompressionLevel(level)).unwrap();
        zstd.set_parameter(CParameter::NbWorkers(workers)).unwrap();
        let (chunk, mut out) = (vec![7; 1 << 20], vec![0; 1 << 20]);
        let mut most = 0;
        for _ in 0..if workers == 0 { 1 } else { 64 } {
            let mut input = InBuffer::around(&chunk);
            while input.pos() < chunk.len() {
                zstd.compress_stream(&mut OutBuffer::around(&mut out[..]), &mut input).unwrap();
            }
            most = most.max(zstd.sizeof());
        }
        most as u64
    }

    #[test]
    fn zstd_takes_no_more_than_is_reserved_for_it() {
        for level in 1..=19 {
            let (taken, reserved) = (taken(level, 0), compressor_bytes(level, 0));
            assert!(taken <= reserved, "{level}: {taken} of {reserved}");
        }
        for (level, workers) in [(1, 4), (3, 1), (3, 2), (3, 4), (9, 2)] {
            let (taken, reserved) = (taken(level, workers), compressor_bytes(level, workers));
            assert!(taken <= reserved, "{level} {workers}: {taken} of {reserved}");
        }
    }

    #[test]
    fn few_bytes_are_few_threads() {
        assert_eq!(most_workers(3, 128 * MIB, 4), 4);
        assert_eq!(most_workers(3, 1024 * MIB, 32), 32);
        assert_eq!(most_workers(3, 80 * MIB, 4), 2);
        assert_eq!(most_workers(3, 8 * MIB, 4), 1);
        assert_eq!(most_workers(19, 128 * MIB, 4), 1);
    }
}
