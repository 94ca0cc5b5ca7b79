//! One file with one short `run` each.

mod closures;
mod gc;
mod pins;
mod push;
mod table;

use std::io;

use niks3_core::{pin_name::PinName, store_path::StorePath};
use tokio::runtime::Runtime;

use crate::{
    api::{Api, ApiError, TokenError, Tokens},
    cli::Command,
    config::ServerConfig,
    gc::CollectError,
    nix::{InstallableError, StoreError},
    push::PushError,
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The runtime.
    #[error("cannot start")]
    Start(#[source] io::Error),
    /// Standard input.
    #[error("cannot read paths from standard input")]
    Stdin(#[source] io::Error),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The server's client.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The store.
    #[error("cannot read the Nix store")]
    Store(#[from] StoreError),
    /// What was named.
    #[error(transparent)]
    Installable(#[from] InstallableError),
    /// `--all` or `--stdin` of nothing.
    #[error("there is nothing to push")]
    Nothing,
    /// Garbage collection.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// `pins create`, and `--pin` when all is in the cache.
    #[error("cannot pin {path} as {name}")]
    Pin {
        /// The pin.
        name: PinName,
        /// What it shall keep.
        path: StorePath,
        /// Why not.
        #[source]
        source: ApiError,
    },
    /// `--pin` of more than one root, or of none.
    #[error("a pin keeps one closure, and {count} were named: nothing was sent")]
    PinOfSeveral {
        /// How many.
        count: usize,
    },
    /// `--pin` of a root that `--exclude` or `--max-nar-size` leaves out.
    #[error("cannot pin {path} as {name}: it is left out of the push")]
    PinLeftOut {
        /// The pin.
        name: PinName,
        /// What it should have kept.
        path: StorePath,
    },
    /// `pins delete`
    #[error("cannot delete the pin {name}")]
    DeletePin {
        /// Its name.
        name: PinName,
        /// Why not.
        #[source]
        source: ApiError,
    },
    /// `closures delete`
    #[error("cannot delete the closure of {path}")]
    DeleteClosure {
        /// Its root.
        path: StorePath,
        /// Why not.
        #[source]
        source: ApiError,
    },
    /// The push itself.
    #[error(transparent)]
    Push(#[from] PushError),
}

/// Carries a command out.
///
/// # Errors
/// When it fails.
pub fn run(command: Command) -> Result<(), CommandError> {
    match command {
        Command::Print(text) => {
            print(&text);
            Ok(())
        }
        Command::Push(config) => push::run(*config),
        Command::Collect(config) => gc::run(config),
        Command::Pins(config) => pins::run(config),
        Command::Closures(config) => closures::run(config),
    }
}

/// What every command needs to call the server.
fn connect(server: &ServerConfig) -> Result<(Runtime, Api), CommandError> {
    let runtime = Runtime::new().map_err(CommandError::Start)?;
    let tokens = runtime.block_on(Tokens::read(server.token.clone()))?;
    Ok((runtime, Api::new(server.url.clone(), tokens)?))
}

/// What a command answers. Whoever closed the pipe has read enough.
fn print(text: &str) {
    let _ = io::Write::write_all(&mut io::stdout().lock(), text.as_bytes());
}
