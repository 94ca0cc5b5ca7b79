//! What `pins` needs to know.

use std::ffi::OsString;

use niks3_core::{
    flags::{FlagError, Flags},
    pin_name::PinName,
};

use super::{ServerConfig, arguments, pin_name, store_names};
use crate::nix::StoreSettings;

/// What `pins` needs to know.
#[derive(Clone, Debug)]
pub struct PinsConfig {
    /// The niks3 server.
    pub server: ServerConfig,
    /// Where paths lie, and links to them lead.
    pub store: StoreSettings,
    /// What to do.
    pub command: PinsCommand,
}

/// What to do with pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinsCommand {
    /// Make it, or move it.
    Create {
        /// Its name.
        name: PinName,
        /// A path, a link, a flake reference.
        path: String,
    },
    /// List all of them.
    List {
        /// `--json`
        json: bool,
        /// `--names-only`
        names_only: bool,
    },
    /// Remove it.
    Delete {
        /// Its name.
        name: PinName,
    },
}

impl PinsConfig {
    /// Checks the flags of `niks3 pins <command>`.
    ///
    /// # Errors
    /// With the first one that is wrong or missing.
    pub fn from_flags(
        command: &str,
        flags: &Flags,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, FlagError> {
        let named = |text: &str| pin_name(text).map_err(FlagError::Parse);
        let command = match command {
            "create" => {
                let [name, path] = arguments(flags, ["NAME", "PATH"])?;
                PinsCommand::Create { name: named(&name)?, path }
            }
            "delete" => {
                let [name] = arguments(flags, ["NAME"])?;
                PinsCommand::Delete { name: named(&name)? }
            }
            _ => {
                let [] = arguments(flags, [])?;
                let (json, names_only) = (flags.switch("json")?, flags.switch("names-only")?);
                if json && names_only {
                    let why = "one of --json and --names-only is enough".to_owned();
                    return Err(FlagError::Parse(why));
                }
                PinsCommand::List { json, names_only }
            }
        };
        let server = ServerConfig::from_flags(flags, "server-url", &env)?;
        Ok(Self { server, store: store_names(flags, &env)?, command })
    }
}
