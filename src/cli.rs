//! The arguments: parsed by one table for each command, which the help texts are made from too.

use std::ffi::OsString;

use niks3_core::flags::{self, Flag, FlagError, Flags, Parsed};

use crate::config::PushConfig;

/// What the person asked for, checked.
#[derive(Debug)]
pub enum Command {
    /// Print this and end.
    Print(String),
    /// Push closures: `copy` and `push`.
    Push(Box<PushConfig>),
}

const SERVER_URL: Flag =
    Flag::value("server-url", "URL", "the niks3 server").env("NIKS3_SERVER_URL");
const TO: Flag = Flag::value("to", "URL", "the niks3 server");
const TOKEN: Flag =
    Flag::value("auth-token-path", "FILE", "the server's token").env("NIKS3_AUTH_TOKEN_FILE");
const TOKEN_SCRIPT: Flag = Flag::value(
    "auth-token-script",
    "FILE",
    "a program that prints the token; run anew when it has expired",
)
.env("NIKS3_AUTH_TOKEN_SCRIPT");
const STORE: Flag =
    Flag::value("store", "STORE", "the Nix store to read: a folder, `local?root=…`, `daemon`");
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
const UPLOADS: Flag =
    Flag::value("max-concurrent-uploads", "N", "requests to S3 at once").default("30");
const BUFFERED: Flag =
    Flag::value("max-buffered", "SIZE", "memory for NARs on their way").default("256MiB");
const LEVEL: Flag =
    Flag::value("compression-level", "N", "of zstd, 1 (fast) to 19 (small)").default("3");
const THRESHOLD: Flag =
    Flag::value("multipart-threshold", "SIZE", "send larger NARs in parts").default("100MB");
const JSON: Flag = Flag::switch("json", "events on standard output, one JSON object a line");
const QUIET: Flag = Flag::switch("quiet", "say nothing but errors").short('q');
const VERBOSE: Flag = Flag::switch("verbose", "say a line for each NAR").short('v');

/// The flags of `niks3 push`.
pub const PUSH_FLAGS: &[Flag] = &with_common(SERVER_URL);

/// The flags of `niks3 copy`.
pub const COPY_FLAGS: &[Flag] = &with_common(TO);

/// What both have, after where to push to.
const fn with_common(to: Flag) -> [Flag; 18] {
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

/// Parses the arguments; `env` looks up a variable.
///
/// # Errors
/// With what is wrong, in one line.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, FlagError> {
    let mut args = args.into_iter();
    let command = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    match command.to_str() {
        Some("copy") => push(COPY_FLAGS, "to", copy_help, args, env),
        Some("push") => push(PUSH_FLAGS, "server-url", push_help, args, env),
        Some("" | "help" | "--help" | "-h") => Ok(Command::Print(help())),
        Some("--version" | "-V") => {
            Ok(Command::Print(concat!("niks3 ", env!("CARGO_PKG_VERSION"), "\n").to_owned()))
        }
        _ => {
            let command = command.to_string_lossy();
            Err(FlagError::Parse(format!("there is no command {command:?}; see niks3 --help")))
        }
    }
}

fn push(
    table: &[Flag],
    url: &str,
    help: impl Fn() -> String,
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
    let flags: Flags = match flags::parse(table, args, &env)? {
        Parsed::Help => return Ok(Command::Print(help())),
        Parsed::Flags(flags) => flags,
    };
    Ok(Command::Push(Box::new(PushConfig::from_flags(&flags, url, env)?)))
}

/// `niks3 --help`
#[must_use]
pub fn help() -> String {
    format!(
        "niks3: push Nix closures to an S3 bucket that cleans up after itself\n\
         \n\
         usage:\n\
         \x20 niks3 copy --to URL [FLAGS] PATH…   like `nix copy`, to the cache of a niks3 server\n\
         \x20 niks3 push [FLAGS] PATH…            the same, with the server from the settings\n\
         \n\
         A PATH is a store path, a file inside one, a link such as ./result, or a flake reference\n\
         such as .#hello, which `nix build` builds first.\n\
         \n\
         flags of copy:\n{}\n\
         flags of push:\n{}\n\
         {VARIABLES}\n\
         {EXIT_CODES}",
        flags::help(COPY_FLAGS),
        flags::help(PUSH_FLAGS)
    )
}

fn copy_help() -> String {
    one_help("niks3 copy --to URL [FLAGS] PATH…", COPY_FLAGS)
}

fn push_help() -> String {
    one_help("niks3 push [FLAGS] PATH…", PUSH_FLAGS)
}

fn one_help(usage: &str, table: &[Flag]) -> String {
    format!("usage: {usage}\n\n{}\n{VARIABLES}\n{EXIT_CODES}", flags::help(table))
}

const VARIABLES: &str = "\
Without --auth-token-path and --auth-token-script the token is read from NIKS3_AUTH_TOKEN, then from
$XDG_CONFIG_HOME/niks3/auth-token. When the server does not take it any more, it is read once again.
NIX_STORE_DIR, NIX_STATE_DIR and NIX_LOG_DIR are respected.
RUST_LOG=niks3=debug logs each step.
";

const EXIT_CODES: &str = "\
Exit codes: 0 all is in the cache; 1 something else failed; 2 a flag or setting is wrong;
3 the server or S3 could not be reached or is overloaded: try again; 4 the server or S3 refused;
5 the Nix store or a path in it cannot be pushed; 130 interrupted.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str], env: &[(&str, &str)]) -> Result<Command, FlagError> {
        let env = |name: &str| {
            env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        parse(args.iter().map(OsString::from), env)
    }

    fn error(args: &[&str]) -> String {
        parsed(args, &[("NIKS3_AUTH_TOKEN", "t")]).unwrap_err().to_string()
    }

    #[test]
    fn copy_and_push_ask_for_a_server_and_paths() {
        let Command::Push(config) =
            parsed(&["copy", "--to", "https://niks3.example.org", "./result", "--stdin"], &[])
                .unwrap()
        else {
            panic!("copy is a push")
        };
        assert_eq!(config.server.as_str(), "https://niks3.example.org/");
        assert!(config.stdin && !config.all);
        assert_eq!(config.installables, ["./result"]);
        let env = [("NIKS3_SERVER_URL", "http://localhost:5751")];
        assert!(matches!(parsed(&["push", "./result"], &env), Ok(Command::Push(_))));
        assert!(
            error(&["push", "./result"]).contains("--server-url (NIKS3_SERVER_URL) is missing")
        );
        assert!(error(&["copy", "./result"]).contains("--to is missing"));
        assert!(error(&["copy", "--to", "http://localhost"]).contains("no path"));
        let both = ["copy", "--to", "http://localhost", "--all", "./result"];
        assert!(error(&both).contains("--all"));
    }

    #[test]
    fn a_bucket_is_told_apart_from_a_server() {
        for url in ["s3://cache", "file:///tmp/cache", "ssh://host", "cache.example.org"] {
            let text = error(&["copy", "--to", url, "./result"]);
            assert!(text.contains("niks3 server") && text.contains("--to"), "{text}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_shown() {
        for url in ["https://me:hunter2@host", "https://host/?token=hunter2", "me:hunter2@host"] {
            let text = error(&["copy", "--to", url, "./result"]);
            assert!(text.contains("niks3 server") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn the_token_comes_from_a_file_or_a_script_and_not_from_both() {
        let copy = ["copy", "--to", "http://localhost", "--auth-token-script", "./token", "x"];
        let Ok(Command::Push(config)) = parsed(&copy, &[("NIKS3_AUTH_TOKEN", "t")]) else {
            panic!("a script is enough")
        };
        assert_eq!(config.token.script.as_deref(), Some(std::path::Path::new("./token")));
        let both = parsed(&copy, &[("NIKS3_AUTH_TOKEN_FILE", "f")]).unwrap_err().to_string();
        assert_eq!(
            both,
            "--auth-token-script (NIKS3_AUTH_TOKEN_SCRIPT): give either this or \
             --auth-token-path (NIKS3_AUTH_TOKEN_FILE), not both"
        );
    }

    #[test]
    fn what_nix_copy_can_and_a_push_cannot_gets_one_sentence() {
        for args in [
            ["copy", "--from", "https://cache"],
            ["copy", "--from=https://cache", "x"],
            ["copy", "-s", "x"],
            ["copy", "--no-recursive", "x"],
            ["push", "--substitute-on-destination", "x"],
        ] {
            let text = error(&args);
            assert!(text.lines().count() == 1 && text.contains(';'), "{text}");
        }
    }

    #[test]
    fn the_help_names_every_flag_and_variable() {
        let text = help();
        for flag in COPY_FLAGS.iter().chain(PUSH_FLAGS) {
            assert!(text.contains(&format!("--{}", flag.name)), "{}", flag.name);
        }
        for name in ["NIKS3_SERVER_URL", "NIKS3_AUTH_TOKEN_FILE", "NIKS3_AUTH_TOKEN,"] {
            assert!(text.contains(name), "{name}");
        }
    }
}
