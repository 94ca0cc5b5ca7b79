//! What `closures` needs to know.

use std::ffi::OsString;

use niks3_core::flags::{FlagError, Flags};

use super::{ServerConfig, arguments, store_names};
use crate::nix::StoreSettings;

/// What `closures` needs to know.
#[derive(Clone, Debug)]
pub struct ClosuresConfig {
    /// The niks3 server.
    pub server: ServerConfig,
    /// Where paths lie, and links to them lead.
    pub store: StoreSettings,
    /// What to do.
    pub command: ClosuresCommand,
}

/// What to do with closures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClosuresCommand {
    /// List all of them.
    List {
        /// `--json`
        json: bool,
    },
    /// Have one expire.
    Delete {
        /// Its root: a path, a link, a flake reference.
        path: String,
    },
}

impl ClosuresConfig {
    /// Checks the flags of `niks3 closures <command>`.
    ///
    /// # Errors
    /// With the first one that is wrong or missing.
    pub fn from_flags(
        command: &str,
        flags: &Flags,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, FlagError> {
        let command = if command == "delete" {
            let [path] = arguments(flags, ["PATH"])?;
            ClosuresCommand::Delete { path }
        } else {
            let [] = arguments(flags, [])?;
            ClosuresCommand::List { json: flags.switch("json")? }
        };
        let server = ServerConfig::from_flags(flags, "server-url", &env)?;
        Ok(Self { server, store: store_names(flags, &env)?, command })
    }
}
