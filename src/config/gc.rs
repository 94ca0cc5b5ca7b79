//! What `gc` needs to know.

use std::ffi::OsString;

use niks3_core::{
    duration,
    flags::{FlagError, Flags},
    wire::CollectRequest,
};

use super::{ServerConfig, arguments, store_names};
use crate::{nix::StoreSettings, push::Style};

/// What `gc` needs to know.
#[derive(Clone, Debug)]
pub struct CollectConfig {
    /// The niks3 server.
    pub server: ServerConfig,
    /// `--older-than`, `--failed-uploads-older-than`, `--force`, `--dry-run`
    pub request: CollectRequest,
    /// Where the paths that a dry run names lie.
    pub store: StoreSettings,
    /// `--json`, `--quiet`
    pub style: Style,
}

impl CollectConfig {
    /// Checks the flags.
    ///
    /// # Errors
    /// With the first one that is wrong or missing.
    pub fn from_flags(
        flags: &Flags,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, FlagError> {
        let [] = arguments(flags, [])?;
        Ok(Self {
            server: ServerConfig::from_flags(flags, "server-url", &env)?,
            request: CollectRequest {
                older_than: flags.required("older-than", seconds)?,
                failed_uploads_older_than: flags.required("failed-uploads-older-than", seconds)?,
                force: flags.switch("force")?,
                dry_run: flags.switch("dry-run")?,
            },
            store: store_names(flags, &env)?,
            style: match (flags.switch("json")?, flags.switch("quiet")?) {
                (false, false) => Style::Normal,
                (true, false) => Style::Json,
                (false, true) => Style::Quiet,
                (true, true) => {
                    let why = "one of --json and --quiet is enough".to_owned();
                    return Err(FlagError::Parse(why));
                }
            },
        })
    }
}

/// Whole seconds, rounded up: 500 ms that became 0 would delete more than was asked for.
fn seconds(text: &str) -> Result<u64, String> {
    let time = duration::parse_or_zero(text)?;
    Ok(time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_seconds_and_never_shorter_than_asked_for() {
        for (text, secs) in [("0s", 0), ("500ms", 1), ("1s", 1), ("720h", 2_592_000)] {
            assert_eq!(seconds(text), Ok(secs), "{text}");
        }
        for text in ["", "30", "-1h", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
