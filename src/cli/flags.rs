//! Flags that several commands have, and texts about them.

use niks3_core::flags::Flag;

pub(super) const SERVER_URL: Flag =
    Flag::value("server-url", "URL", "the niks3 server").env("NIKS3_SERVER_URL");
pub(super) const TOKEN: Flag =
    Flag::value("auth-token-path", "FILE", "the server's token").env("NIKS3_AUTH_TOKEN_FILE");
pub(super) const TOKEN_SCRIPT: Flag = Flag::value(
    "auth-token-script",
    "FILE",
    "a program that prints the token; run anew when it has expired",
)
.env("NIKS3_AUTH_TOKEN_SCRIPT");
/// What every command has, in front of its own.
pub(super) const SERVER: &[Flag] = &[SERVER_URL, TOKEN, TOKEN_SCRIPT];
pub(super) const STORE: Flag =
    Flag::value("store", "STORE", "the Nix store to read: a folder, `local?root=…`, `daemon`");
pub(super) const QUIET: Flag = Flag::switch("quiet", "say nothing but errors").short('q');

pub(super) const VARIABLES: &str = "\
Without --auth-token-path and --auth-token-script the token is read from NIKS3_AUTH_TOKEN, then from
$XDG_CONFIG_HOME/niks3/auth-token. When the server does not take it any more, it is read once again.
NIX_STORE_DIR, NIX_STATE_DIR and NIX_LOG_DIR are respected.
RUST_LOG=niks3=debug logs each step.
";

pub(super) const EXIT_CODES: &str = "\
Exit codes: 0 it is done; 1 something else failed; 2 a flag or setting is wrong;
3 the server or S3 could not be reached or is overloaded: try again; 4 the server or S3 refused;
5 the Nix store or a path in it cannot be read or pushed; 130 interrupted.
";
