//! `niks3 closures`.

use niks3_core::flags::Flag;

use super::{
    Group, Page,
    flags::{SERVER_URL, STORE, TOKEN, TOKEN_SCRIPT},
};

const JSON: Flag =
    Flag::switch("json", "an array of JSON objects: path, pushed_at, pinned_by, paths, bytes");

/// `niks3 closures list`
pub(super) const LIST: Page = Page {
    usage: "niks3 closures list [FLAGS]",
    about: "\
Lists what was pushed and has not expired, the newest first: when it was last pushed, how large it is
in the bucket (what it shares with other closures included), what pins it, and its root.
",
    flags: &[SERVER_URL, TOKEN, TOKEN_SCRIPT, STORE, JSON],
};

/// `niks3 closures delete`
pub(super) const DELETE: Page = Page {
    usage: "niks3 closures delete [FLAGS] PATH",
    about: "\
Has the closure with this root expire now. `niks3 gc` then deletes what nothing else needs. A closure
that is pinned is refused. PATH is as for `niks3 pins create`.
",
    flags: &[SERVER_URL, TOKEN, TOKEN_SCRIPT, STORE],
};

/// `niks3 closures`
pub(super) const CLOSURES: Group = Group {
    name: "closures",
    about: "Closures are what was pushed: a root, and all that it needs.\n",
    pages: &[("list", &LIST), ("delete", &DELETE)],
};
