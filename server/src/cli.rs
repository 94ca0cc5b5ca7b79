//! The commands of `niks3-server`.

use std::{ffi::OsString, future::Future, process::ExitCode};

use niks3_core::{
    causes::causes,
    flags::{self, FlagError, Parsed},
    resign::Resigning,
    store_path::StorePathHash,
};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tracing::info;

use crate::{
    ServerError,
    config::{
        self, Config, FLAGS, FORGET_FLAGS, FSCK_FLAGS, FsckConfig, RESIGN_FLAGS, forget_flags,
        fsck_flags, resign_flags,
    },
    dev::{self, DevError, DevOptions},
    fsck::FsckOptions,
    migrate, run as serve,
    store::DatabaseUrl,
    telemetry,
};

/// What the person asked for, checked.
#[derive(Debug)]
pub enum Command {
    /// Print this and end.
    Print(String),
    /// Serve.
    Serve(Box<Config>),
    /// Bring the schema up to date.
    Migrate(DatabaseUrl),
    /// Look whether all is well.
    Fsck(Box<FsckConfig>, FsckOptions),
    /// Have paths go, and all that refers to them if that is wanted.
    Forget(Box<FsckConfig>, Vec<StorePathHash>, bool),
    /// Give what is in the cache other signatures; report in JSON?
    Resign(Box<FsckConfig>, Resigning, bool),
    /// A whole cache on this machine.
    Dev(DevOptions),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The runtime or the signals.
    #[error("cannot start")]
    Start(#[source] std::io::Error),
    /// `niks3-server` and `niks3-server migrate`
    #[error(transparent)]
    Server(#[from] ServerError),
    /// `niks3-server fsck --json`, `niks3-server resign --json`
    #[error("cannot write the report")]
    Json(#[source] serde_json::Error),
    /// `niks3-server dev`
    #[error(transparent)]
    Dev(#[from] DevError),
}

/// Exit code for a wrong or missing setting.
const USAGE: u8 = 2;

/// Parses the arguments; `env` looks up a variable.
///
/// # Errors
/// With the first setting that is wrong or missing.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, FlagError> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let command = args.first().and_then(|arg| arg.to_str()).unwrap_or_default().to_owned();
    let table = match command.as_str() {
        "dev" => dev::FLAGS.to_vec(),
        "fsck" => fsck_flags(),
        "forget" => forget_flags(),
        "resign" => resign_flags(),
        _ => FLAGS.to_vec(),
    };
    let named = ["dev", "migrate", "fsck", "forget", "resign", "help"].contains(&command.as_str());
    if named {
        args.remove(0);
    }
    if command == "help" || args.iter().any(|arg| arg == "--version" || arg == "-V") {
        let version = format!("niks3-server {}\n", env!("CARGO_PKG_VERSION"));
        return Ok(Command::Print(if command == "help" { help() } else { version }));
    }
    let Parsed::Flags(flags) = flags::parse(&table, args, env)? else {
        return Ok(Command::Print(help()));
    };
    if let Some(stray) = flags.arguments.first().filter(|_| command != "forget") {
        let stray = stray.to_string_lossy();
        return Err(FlagError::Parse(format!("there is no command {stray:?}; see --help")));
    }
    Ok(match command.as_str() {
        "dev" => Command::Dev(DevOptions::from_flags(&flags)?),
        "fsck" => {
            let config = FsckConfig::from_flags(&flags)?;
            Command::Fsck(Box::new(config), config::fsck_options(&flags)?)
        }
        "forget" => {
            let config = FsckConfig::from_flags(&flags)?;
            let (paths, with_referrers) = config::forget_options(&flags, &config.store_dir)?;
            Command::Forget(Box::new(config), paths, with_referrers)
        }
        "resign" => {
            let config = FsckConfig::from_flags(&flags)?;
            let (resigning, json) = config::resign_options(&flags)?;
            Command::Resign(Box::new(config), resigning, json)
        }
        "migrate" => Command::Migrate(config::database(&flags)?),
        _ => Command::Serve(Box::new(Config::from_flags(&flags)?)),
    })
}

/// `--help`
#[must_use]
pub fn help() -> String {
    format!(
        "niks3-server: plans uploads, signs narinfos and keeps the references of a Nix cache in S3\n\
         \n\
         usage:\n\
         \x20 niks3-server [FLAGS]           serve\n\
         \x20 niks3-server migrate --db URL  bring the database schema up to date, then end\n\
         \x20 niks3-server fsck [FLAGS]      look whether database and bucket are as they shall be\n\
         \x20 niks3-server forget PATH…      delete paths now, so that a push sends them anew\n\
         \x20 niks3-server resign [FLAGS]    give what is in the cache signatures by other keys\n\
         \x20 niks3-server dev [FLAGS]       a complete cache on this machine, with no set-up\n\
         \n\
         flags, with their variables:\n{}\n\
         flags of fsck, with those above of database, bucket and store directory:\n{}\n\
         flags of forget, with the same:\n{}\n\
         flags of resign, with the same and --sign-key-path:\n{}\n\
         flags of dev:\n{}\n\
         Exit codes: 0 all went well, 1 it failed, fsck has found or resign has left something, 2 a setting is wrong or \
         missing.\n",
        flags::help(FLAGS),
        flags::help(FSCK_FLAGS),
        flags::help(FORGET_FLAGS),
        flags::help(RESIGN_FLAGS),
        flags::help(dev::FLAGS)
    )
}

/// Carries a command out; answers the exit code.
///
/// # Errors
/// When it fails.
pub fn run(command: Command) -> Result<ExitCode, CommandError> {
    let runtime = Runtime::new().map_err(CommandError::Start)?;
    match command {
        Command::Print(text) => print!("{text}"),
        Command::Serve(config) => runtime.block_on(serve_until_told(*config))?,
        Command::Migrate(database) => {
            telemetry::start(false);
            for migration in runtime.block_on(migrate(database))? {
                println!("applied {migration}");
            }
        }
        Command::Fsck(config, options) => {
            telemetry::start(config.debug);
            let report = runtime.block_on(crate::fsck(*config, options))?;
            if options.json {
                println!("{}", serde_json::to_string(&report).map_err(CommandError::Json)?);
            } else {
                print!("{report}");
            }
            return Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Forget(config, paths, with_referrers) => {
            telemetry::start(config.debug);
            let forgotten = runtime.block_on(crate::forget(*config, &paths, with_referrers))?;
            println!("forgot {forgotten} paths");
        }
        Command::Resign(config, resigning, json) => {
            telemetry::start(config.debug);
            let report = runtime.block_on(crate::resign(*config, &resigning))?;
            if json {
                println!("{}", serde_json::to_string(&report).map_err(CommandError::Json)?);
            } else {
                print!("{report}");
            }
            let complete = report.is_complete();
            return Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Dev(options) => {
            telemetry::start(options.debug);
            let shutdown = runtime.block_on(async { told_to_stop() });
            runtime.block_on(dev::run(options, shutdown.map_err(CommandError::Start)?))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve_until_told(config: Config) -> Result<(), CommandError> {
    telemetry::start(config.debug);
    let shutdown = told_to_stop().map_err(CommandError::Start)?;
    let address = config.http_addr;
    let listener = TcpListener::bind(address).await.map_err(|source| {
        CommandError::Server(ServerError::Listen { address: address.to_string(), source })
    })?;
    let address = listener.local_addr().unwrap_or(address);
    info!(http.address = %address, "listening");
    Ok(serve(config, listener, shutdown).await?)
}

/// Ready when SIGTERM or Ctrl-C arrives.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Prints why a command failed, its causes and what to do.
#[must_use]
pub fn show(error: &CommandError) -> ExitCode {
    for (n, text) in causes(error).iter().enumerate() {
        eprintln!("{}{text}", if n == 0 { "error: " } else { "  because " });
    }
    let hint = if let CommandError::Dev(error) = error { error.hint() } else { None };
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
    ExitCode::FAILURE
}

/// Prints which setting is wrong.
#[must_use]
pub fn show_usage(error: &FlagError) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(args: &[&str], env: &[(&str, &str)]) -> String {
        let env = |name: &str| {
            env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        parse(args.iter().map(OsString::from), env).unwrap_err().to_string()
    }

    /// Settings of which each test leaves one out or breaks one.
    fn good(dir: &std::path::Path) -> Vec<(&'static str, String)> {
        let file = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let key = niks3_core::signing::SigningKey::from_seed("test-1", &[7; 32]).unwrap();
        vec![
            ("NIKS3_DB", "postgres://me@db/niks3".to_owned()),
            ("NIKS3_S3_ENDPOINT", "s3.example.org".to_owned()),
            ("NIKS3_S3_BUCKET", "cache".to_owned()),
            ("NIKS3_S3_ACCESS_KEY_PATH", file("access", "AK")),
            ("NIKS3_S3_SECRET_KEY_PATH", file("secret", "SK")),
            ("NIKS3_API_TOKEN_PATH", file("token", "abcdefghijklmnopqrstuvwxyz0123456789\n")),
            ("NIKS3_SIGN_KEY_PATHS", file("key", &key.secret_text())),
        ]
    }

    #[test]
    fn a_missing_setting_is_one_line_with_its_flag_and_variable() {
        let dir = tempfile::tempdir().unwrap();
        let good = good(dir.path());
        for (missing, _) in &good {
            let env: Vec<(&str, &str)> = good
                .iter()
                .filter(|(name, _)| name != missing)
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let text = error(&[], &env);
            assert!(text.contains(missing) && text.contains("is missing"), "{missing}: {text}");
            assert!(text.starts_with("--") && text.lines().count() == 1, "{text}");
        }
    }

    #[test]
    fn a_wrong_setting_is_one_line_with_its_flag_and_variable() {
        let dir = tempfile::tempdir().unwrap();
        let good = good(dir.path());
        let short = dir.path().join("short");
        std::fs::write(&short, "too-short").unwrap();
        let short = short.display().to_string();
        for (name, value, part) in [
            ("NIKS3_DB", "mysql://x", "--db"),
            ("NIKS3_HTTP_ADDR", "everywhere", "--http-addr"),
            ("NIKS3_S3_ENDPOINT", "ftp://x", "--s3-endpoint"),
            ("NIKS3_S3_USE_SSL", "maybe", "--s3-use-ssl"),
            ("NIKS3_S3_BUCKET_LOOKUP", "guess", "--s3-bucket-lookup"),
            ("NIKS3_S3_CONCURRENCY", "0", "--s3-concurrency"),
            ("NIKS3_S3_SECRET_KEY_PATH", "/does/not/exist", "/does/not/exist"),
            ("NIKS3_API_TOKEN_PATH", &short, "9 characters, it needs 36"),
            ("NIKS3_SIGN_KEY_PATHS", &short, "is no signing key"),
            ("NIKS3_CACHE_URL", "not a url", "--cache-url"),
            ("NIX_STORE_DIR", "relative/store", "--store-dir"),
            ("NIKS3_METADATA_ENCODING", "xz", "--metadata-encoding"),
            ("NIKS3_CACHE_CONTROL", "nar=no-cache\npin=no-cache", "--cache-control"),
            ("NIKS3_CONTENT_TYPE", "text/plain", "is not KIND=VALUE"),
            ("NIKS3_URL_LIFETIME", "30", "--url-lifetime"),
            ("NIKS3_URL_LIFETIME", "13h", "12h at most"),
        ] {
            let mut env: Vec<(&str, &str)> =
                good.iter().map(|(name, value)| (*name, value.as_str())).collect();
            env.retain(|(known, _)| *known != name);
            env.push((name, value));
            let text = error(&[], &env);
            assert!(text.contains(name) && text.contains(part), "{name}={value}: {text}");
        }
    }

    #[test]
    fn flags_and_secrets_given_twice_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let good = good(dir.path());
        let env: Vec<(&str, &str)> =
            good.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let text = error(&["--api-token", "abcdefghijklmnopqrstuvwxyz0123456789"], &env);
        assert!(text.contains("--api-token-path") && text.contains("leave one out"), "{text}");
        assert!(error(&["resign", "--add", "--replace", "k-1"], &env).contains("leave one out"));
        assert!(error(&["resign", "--replace", "k-1:AAAA"], &env).contains("not the name"));
        assert!(error(&["serve"], &env).contains("no command"));
        assert!(error(&["--bukket", "x"], &env).contains("--bukket"));
    }

    #[test]
    fn good_settings_are_taken_and_their_debug_shows_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let good = good(dir.path());
        let env = |name: &str| {
            good.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        let command = parse([], env).unwrap();
        let text = format!("{command:?}");
        assert!(text.contains("s3.example.org") && text.contains("127.0.0.1:5751"));
        for secret in ["abcdefghij", "SK", "me@db"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }

    #[test]
    fn the_help_names_every_flag_and_every_variable() {
        let text = help();
        for flag in FLAGS.iter().chain(dev::FLAGS) {
            assert!(text.contains(&format!("--{}", flag.name)), "{}", flag.name);
            assert!(flag.env.is_some_and(|env| text.contains(env)), "{}", flag.name);
        }
    }
}
