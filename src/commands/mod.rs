//! One file with one short `run` each.

mod push;

use std::io;

use crate::{
    api::{ApiError, TokenError},
    cli::Command,
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
            // Whoever closed the pipe has read enough.
            let _ = io::Write::write_all(&mut io::stdout(), text.as_bytes());
            Ok(())
        }
        Command::Push(config) => push::run(*config),
    }
}
