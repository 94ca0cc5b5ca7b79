//! End to end: the real programs, a real PostgreSQL, a real S3 server and real Nix.
//!
//! What is used is chosen by the environment; `scripts/test` sets it:
//! - `NIKS3_TEST_NIX`: folders with Nix's programs, between colons; else `nix` on `PATH`.
//! - `NIKS3_TEST_S3_ENDPOINT`, `_REGION`, `_ACCESS_KEY`, `_SECRET_KEY`: another S3 server than the
//!   embedded one.
//! - `NIKS3_TEST_SEED`, `NIKS3_TEST_ROUNDS`: for what is random. The seed is always printed.
//! - `NIKS3_TEST_SHARED_FIXTURE`: a further `.nix` file to push all of.
//! - `NIKS3_TEST_LONG`: the sizes of the long profile.
#![allow(missing_docs, clippy::unwrap_used)]

mod attachments;
mod cdn;
mod cli;
mod closures;
mod counts;
mod debug_info;
mod faults;
mod faults_database;
mod fleet;
mod fsck;
mod gc;
mod gc_accidents;
mod gc_random;
mod hostile;
mod kill;
mod large;
mod local_gc;
mod logs;
mod options;
mod parity;
mod pins;
mod pins_faults;
mod proxies;
mod races;
mod readers;
mod reads;
mod realisations;
mod refused;
mod repair;
mod resign;
mod resign_faults;
mod scale;
mod server;
mod support;
mod upstream;
