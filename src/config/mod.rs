//! Flags, environment and files become one checked value for each command.

mod closures;
mod gc;
mod pins;
mod push;
mod server;

use std::ffi::OsString;

use niks3_core::{
    flags::{FlagError, Flags},
    pin_name::{PinName, PinNameError},
};

use crate::nix::StoreSettings;

pub use closures::{ClosuresCommand, ClosuresConfig};
pub use gc::CollectConfig;
pub use pins::{PinsCommand, PinsConfig};
pub use push::PushConfig;
pub use server::ServerConfig;

/// An argument as text.
fn argument(arg: &OsString) -> Result<String, FlagError> {
    arg.to_str().map(str::to_owned).ok_or_else(|| {
        let arg = arg.to_string_lossy();
        FlagError::Parse(format!("{arg:?} is not UTF-8, so it names nothing in a Nix store"))
    })
}

/// As many arguments as there are names for.
fn arguments<const N: usize>(flags: &Flags, names: [&str; N]) -> Result<[String; N], FlagError> {
    let given: Vec<String> = flags.arguments.iter().map(argument).collect::<Result<_, _>>()?;
    let count = given.len();
    given.try_into().map_err(|_| {
        let wanted = if N == 0 { "no argument".to_owned() } else { names.join(" and ") };
        FlagError::Parse(format!("it takes {wanted}, and {count} arguments were given; see --help"))
    })
}

fn pin_name(text: &str) -> Result<PinName, String> {
    text.parse().map_err(|error: PinNameError| error.to_string())
}

/// Where store paths lie, to read and print them. Where `NIX_REMOTE` names a store on another machine
/// that is no hindrance: nothing is read from it.
fn store_names(
    flags: &Flags,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<StoreSettings, FlagError> {
    let given = flags.text("store")?;
    match StoreSettings::new(given.as_deref(), &env) {
        Err(_) if given.is_none() => StoreSettings::new(Some("auto"), &env),
        settings => settings,
    }
    .map_err(|error| flags.invalid("store", error.to_string()))
}
