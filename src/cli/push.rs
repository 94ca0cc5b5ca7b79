//! `niks3 copy` and `niks3 push`.

use std::ffi::OsString;

use niks3_core::flags::{Flag, FlagError};

use super::{
    Command, Page,
    flags::{QUIET, SERVER_URL, STORE, TOKEN, TOKEN_SCRIPT},
};
use crate::config::PushConfig;

const TO: Flag = Flag::value("to", "URL", "the niks3 server");
const STDIN: Flag = Flag::switch("stdin", "read further paths from standard input, one a line");
const ALL: Flag = Flag::switch("all", "push every valid path of the store");
const DERIVATION: Flag =
    Flag::switch("derivation", "push the derivations of what is named, not their outputs");

const EXCLUDE: Flag = Flag::value(
    "exclude",
    "GLOB",
    "leave out roots whose name, without the hash, matches; repeatable",
)
.repeatable();
const MAX_NAR_SIZE: Flag =
    Flag::value("max-nar-size", "SIZE", "leave out roots whose NAR is larger");
const DRY_RUN: Flag = Flag::switch("dry-run", "say what would be sent, and change nothing");
const VERIFY: Flag = Flag::switch(
    "verify-s3-integrity",
    "look first whether the bucket has all that the server believes, and send again what it has not",
);
const UPSTREAM_KEY: Flag = Flag::value(
    "upstream-key",
    "KEY",
    "leave out paths that this public key of another cache has signed; readers need that cache too",
)
.env("NIKS3_UPSTREAM_KEYS")
.repeatable();
const UPLOADS: Flag =
    Flag::value("max-concurrent-uploads", "N", "requests to S3 at once").default("30");
const BUFFERED: Flag =
    Flag::value("max-buffered", "SIZE", "memory for NARs on their way").default("256MiB");
const LEVEL: Flag =
    Flag::value("compression-level", "N", "of zstd, 1 (fast) to 19 (small)").default("3");
const THRESHOLD: Flag =
    Flag::value("multipart-threshold", "SIZE", "send larger NARs in parts").default("100MB");
const DEBUG_INFO: Flag = Flag::switch(
    "index-debug-info",
    "have debuggers find the debug files of the paths by their build ids",
)
.env("NIKS3_INDEX_DEBUG_INFO");
const PIN: Flag = Flag::value(
    "pin",
    "NAME",
    "keep the closure from expiring under this name, once it is there; for one root",
);
const JSON: Flag = Flag::switch("json", "events on standard output, one JSON object a line");
const VERBOSE: Flag = Flag::switch("verbose", "say a line for each NAR").short('v');

/// The flags of `niks3 push`.
pub const PUSH_FLAGS: &[Flag] = &with_common(SERVER_URL);

/// The flags of `niks3 copy`.
pub const COPY_FLAGS: &[Flag] = &with_common(TO);

/// What both have, after where to push to.
const fn with_common(to: Flag) -> [Flag; 21] {
    [
        to,
        TOKEN,
        TOKEN_SCRIPT,
        STORE,
        STDIN,
        ALL,
        DERIVATION,
        EXCLUDE,
        MAX_NAR_SIZE,
        DRY_RUN,
        VERIFY,
        DEBUG_INFO,
        PIN,
        UPSTREAM_KEY,
        UPLOADS,
        BUFFERED,
        LEVEL,
        THRESHOLD,
        JSON,
        QUIET,
        VERBOSE,
    ]
}

/// What `nix copy` knows and a push cannot do, with what to do instead.
const NOT_HERE: &[(&str, &str)] = &[
    ("--from", "niks3 only writes to a cache; to read from one, use `nix copy --from URL`"),
    (
        "--substitute-on-destination",
        "a bucket cannot substitute; leave it out, what the cache has is not sent again",
    ),
    ("-s", "a bucket cannot substitute; leave it out, what the cache has is not sent again"),
    (
        "--no-recursive",
        "a path without its references would break the cache for readers; leave it out, what \
         the cache has is not sent again",
    ),
    ("--no-check-sigs", "a push asks for no signatures, the server signs; leave it out"),
];

/// `niks3 copy`
pub(super) const COPY: Page = Page {
    usage: "niks3 copy --to URL [FLAGS] PATH…",
    about: "Pushes closures as `niks3 push` does, with the server named as in `nix copy`.\n",
    flags: COPY_FLAGS,
};

/// `niks3 push`
pub(super) const PUSH: Page = Page {
    usage: "niks3 push [FLAGS] PATH…",
    about: "\
Pushes the closure of each PATH: a store path, a file inside one, a link such as ./result, or a flake
reference such as .#hello, which `nix build` builds first. What the cache has is not sent again.
",
    flags: PUSH_FLAGS,
};

/// Parses what follows `copy` or `push`.
pub(super) fn parse(
    page: &Page,
    url: &str,
    args: Vec<OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, FlagError> {
    let before_paths = args.iter().take_while(|arg| *arg != "--");
    for arg in before_paths.filter_map(|arg| arg.to_str()) {
        let name = arg.split_once('=').map_or(arg, |(name, _)| name);
        if let Some((name, instead)) = NOT_HERE.iter().find(|(known, _)| *known == name) {
            return Err(FlagError::Parse(format!("{name}: {instead}")));
        }
    }
    page.parse(args, &env, |flags| {
        Ok(Command::Push(Box::new(PushConfig::from_flags(flags, url, &env)?)))
    })
}
