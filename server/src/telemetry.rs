//! Logging.

use tracing_subscriber::EnvFilter;

use crate::dev::s3::LOG_DIRECTIVES;

/// Logs to standard error: what an administrator should know, or with `debug` each call too.
/// `RUST_LOG` overrides both. Without a terminal there are no colours and no times: journald has
/// its own.
pub fn start(debug: bool) {
    let ours = if debug { "niks3_server=debug,tower_http=debug,info" } else { "info" };
    // s3s logs what it answers, a 404 as an error too; the embedded S3 logs what matters itself.
    let ours = format!("{ours},{LOG_DIRECTIVES}");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(ours));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, as tests make, is no error.
    let _ = if terminal {
        log.with_ansi(true).try_init()
    } else {
        log.with_ansi(false).without_time().try_init()
    };
}
