//! `niks3 gc`.

use niks3_core::flags::Flag;

use super::{
    Page,
    flags::{QUIET, SERVER_URL, TOKEN, TOKEN_SCRIPT},
};

const OLDER_THAN: Flag = Flag::value(
    "older-than",
    "TIME",
    "closures that were last pushed longer ago expire, pinned ones excepted: 720h, 30d, 4w, 0s",
)
.default("720h");
const FAILED_UPLOADS: Flag = Flag::value(
    "failed-uploads-older-than",
    "TIME",
    "pushes that gave no sign of life for longer have failed; also the grace period: garbage is \
     deleted when it has been garbage for so long",
)
.default("6h");
const FORCE: Flag = Flag::switch("force", "no grace period: delete what is garbage at once");
const DRY_RUN: Flag = Flag::switch("dry-run", "say what would go, and change nothing");
const JSON: Flag = Flag::switch("json", "the result on standard output, as one JSON object");

/// `niks3 gc`
pub(super) const GC: Page = Page {
    usage: "niks3 gc [FLAGS]",
    about: "\
Deletes what nothing needs. Pushes that failed let go of what they held, old closures expire, what no
closure, pin or push needs any more is marked, and what has been marked for the grace period is deleted
from the bucket. The server does it: when this command is interrupted the run goes on, and the same
command follows it again. One run is under way at a time; another one with other flags is refused.

It ends with statistics on standard output. Objects that S3 did not delete (objects-failed-to-delete)
are no failure: the next run tries again. A TIME of 0s is allowed.
",
    flags: &[
        SERVER_URL,
        TOKEN,
        TOKEN_SCRIPT,
        OLDER_THAN,
        FAILED_UPLOADS,
        FORCE,
        DRY_RUN,
        JSON,
        QUIET,
    ],
};
