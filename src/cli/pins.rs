//! `niks3 pins`.

use niks3_core::flags::Flag;

use super::{
    Group, Page,
    flags::{SERVER_URL, STORE, TOKEN, TOKEN_SCRIPT},
};

const JSON: Flag = Flag::switch("json", "an array of JSON objects: name, path, moved_at");
const NAMES_ONLY: Flag = Flag::switch("names-only", "one name a line and nothing else");

/// `niks3 pins create`
pub(super) const CREATE: Page = Page {
    usage: "niks3 pins create [FLAGS] NAME PATH",
    about: "\
Names a closure and keeps it from expiring. A pin that is there is moved. PATH is the root of a closure
that was pushed: a store path or its base name, which need not be in a store here, a file inside one,
a link such as ./result, or a flake reference, which `nix build` builds first. NAME takes letters,
digits, `.`, `_` and `-`. Readers find the path at pins/NAME of the cache.
",
    flags: &[SERVER_URL, TOKEN, TOKEN_SCRIPT, STORE],
};

/// `niks3 pins list`
pub(super) const LIST: Page = Page {
    usage: "niks3 pins list [FLAGS]",
    about: "Lists all pins by name, with the path that each keeps and when it was moved there.\n",
    flags: &[SERVER_URL, TOKEN, TOKEN_SCRIPT, STORE, JSON, NAMES_ONLY],
};

/// `niks3 pins delete`
pub(super) const DELETE: Page = Page {
    usage: "niks3 pins delete [FLAGS] NAME",
    about: "Removes a pin. Its closure expires like any other then: see `niks3 gc`.\n",
    flags: &[SERVER_URL, TOKEN, TOKEN_SCRIPT],
};

/// `niks3 pins`
pub(super) const PINS: Group = Group {
    name: "pins",
    about: "Pins keep closures from expiring, under a name.\n",
    pages: &[("create", &CREATE), ("list", &LIST), ("delete", &DELETE)],
};
