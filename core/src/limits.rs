//! The bounds that client and server must agree on. Each has a reason.

use std::time::Duration;

/// Paths in one plan. Above the 100,000 of the largest closures we know of.
pub const MAX_PATHS: usize = 200_000;

/// References in one plan, all paths together.
pub const MAX_REFERENCES: usize = 4_000_000;

/// References of one path. A narinfo may have 1 MiB (nix-narinfo's limit), and a reference of
/// ordinary length takes 50 to 60 bytes in it.
pub const MAX_REFERENCES_PER_PATH: usize = 10_000;

/// Signatures that a path may bring along.
pub const MAX_SIGNATURES_PER_PATH: usize = 32;

/// Bytes of the references and signatures of one path, as its narinfo has them. nix-narinfo reads
/// narinfos of up to 1 MiB; the rest of one is short.
pub const MAX_PATH_TEXT_BYTES: usize = 900 * 1024;

/// Bytes of the body of a plan: 100,000 paths with all they have take about 50 MB of JSON.
pub const MAX_PLAN_BYTES: usize = 96 * 1024 * 1024;

/// Bytes of the body of any other call.
pub const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// Objects in one call for URLs or one report of what is stored.
pub const MAX_OBJECTS_PER_CALL: usize = 1000;

/// Bytes of one PUT: S3 takes 5 GiB.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html>
pub const MAX_PUT_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// Bytes of a listing, compressed or not: 16 MiB is a path of some 200,000 files.
pub const MAX_LISTING_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes of a build log, compressed or not: compilers that talk a lot write some 10 MB. Nix itself has
/// no limit; what is longer stays where it was built.
pub const MAX_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// Realisations of one path: the derivations that differ and have this very output.
pub const MAX_REALISATIONS_PER_PATH: usize = 256;

/// Outputs that one realisation may name as what it was built with.
pub const MAX_DEPENDENCIES_PER_REALISATION: usize = 10_000;

/// Debug files of one path: those of all of a Linux kernel's modules are some 7,000.
pub const MAX_DEBUG_FILES_PER_PATH: usize = 20_000;

/// Realisations and debug files of one plan: two layouts of each of [`MAX_PATHS`].
pub const MAX_ATTACHMENTS: usize = 400_000;

/// Public keys of other caches that one push may name: each is tried on each path.
pub const MAX_UPSTREAM_KEYS: usize = 16;

/// Characters of a bearer token, at the least.
pub const MIN_TOKEN_CHARS: usize = 36;

/// How long one PUT of `bytes` may take before the client gives up on it: a minute, and what
/// 128 KiB a second need.
#[must_use]
pub fn put_time(bytes: u64) -> Duration {
    Duration::from_secs(60) + slow_body_time(bytes)
}

/// How long a body of `bytes` may be on its way. The server counts on nobody writing a key for longer
/// than that and its slack after the URL has expired.
#[must_use]
pub fn slow_body_time(bytes: u64) -> Duration {
    const SLOWEST_BYTES_PER_SECOND: u64 = 128 * 1024;
    Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_body_may_take_longer() {
        assert_eq!(put_time(0), Duration::from_secs(60));
        assert_eq!(put_time(128 * 1024 * 60), Duration::from_secs(120));
        assert!(put_time(MAX_PUT_BYTES) < Duration::from_secs(12 * 3600));
    }
}
