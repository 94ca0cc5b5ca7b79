//! What `copy` and `push` need to know.

use std::{ffi::OsString, fmt, num::NonZeroUsize, ops::RangeInclusive, str::FromStr};

use bytesize::ByteSize;
use glob::Pattern;
use niks3_core::{
    flags::{FlagError, Flags},
    limits::MAX_UPSTREAM_KEYS,
    parts::MIN_PART_BYTES,
    pin_name::PinName,
    signing::{PublicKey, PublicKeyError},
};

use super::{ServerConfig, argument, pin_name};
use crate::{
    nix::{StoreSettings, Want},
    pack::compressor_bytes,
    push::{PushOptions, Style, select::LeaveOut},
    text::human_bytes,
};

/// Bytes of a NAR that is sent in one PUT, whatever is asked for: it waits in a temporary file.
const MOST_IN_ONE_PUT: u64 = 4_000_000_000;

/// Requests to S3 at once, whatever is asked for: each takes a connection.
const MAX_UPLOADS: NonZeroUsize = NonZeroUsize::new(1000).unwrap();

/// What `copy` and `push` need to know.
#[derive(Clone, Debug)]
pub struct PushConfig {
    /// The niks3 server.
    pub server: ServerConfig,
    /// The store to read.
    pub store: StoreSettings,
    /// What was named: paths, links, flake references.
    pub installables: Vec<String>,
    /// `--stdin`
    pub stdin: bool,
    /// `--all`
    pub all: bool,
    /// `--derivation`
    pub want: Want,
    /// `--exclude`, `--max-nar-size`
    pub leave_out: LeaveOut,
    /// `--pin`
    pub pin: Option<PinName>,
    /// `--upstream-key`
    pub upstream_keys: Vec<PublicKey>,
    /// `--max-concurrent-uploads`
    pub uploads: NonZeroUsize,
    /// `--json`, `--quiet`, `--verbose`
    pub style: Style,
    /// How the push is done.
    pub options: PushOptions,
}

impl PushConfig {
    /// Checks the flags; the server's is called `url`.
    ///
    /// # Errors
    /// With the first one that is wrong or missing.
    pub fn from_flags(
        flags: &Flags,
        url: &str,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, FlagError> {
        let store = flags.text("store")?;
        let derivation = flags.switch("derivation")?;
        let config = Self {
            server: ServerConfig::from_flags(flags, url, &env)?,
            store: StoreSettings::new(store.as_deref(), &env)
                .map_err(|error| flags.invalid("store", error.to_string()))?,
            installables: flags.arguments.iter().map(argument).collect::<Result<_, _>>()?,
            stdin: flags.switch("stdin")?,
            all: flags.switch("all")?,
            want: if derivation { Want::Derivation } else { Want::Outputs },
            leave_out: LeaveOut {
                names: patterns(flags)?,
                larger_than: flags.parsed("max-nar-size", size)?,
            },
            pin: flags.parsed("pin", pin_name)?,
            upstream_keys: flags.each("upstream-key", MAX_UPSTREAM_KEYS, |text| {
                text.parse().map_err(|why: PublicKeyError| why.to_string())
            })?,
            uploads: flags.required("max-concurrent-uploads", |text| {
                number(text, NonZeroUsize::MIN..=MAX_UPLOADS)
            })?,
            style: style(flags)?,
            options: options(flags)?,
        };
        if config.all && (config.stdin || !config.installables.is_empty()) {
            return Err(flags.invalid("all", "it takes no paths, and no --stdin"));
        }
        if !config.all && !config.stdin && config.installables.is_empty() {
            return Err(FlagError::Parse(
                "there is no path to push: name one, or use --stdin or --all".to_owned(),
            ));
        }
        if config.pin.is_some() && (config.all || config.installables.len() > 1) {
            return Err(flags.invalid("pin", "a pin keeps one closure: name one path"));
        }
        Ok(config)
    }
}

fn patterns(flags: &Flags) -> Result<Vec<Pattern>, FlagError> {
    let pattern = |glob: &OsString| {
        let glob = glob.to_string_lossy();
        Pattern::new(&glob).map_err(|error| flags.invalid("exclude", format!("{glob:?}: {error}")))
    };
    flags.all("exclude").iter().map(pattern).collect()
}

fn style(flags: &Flags) -> Result<Style, FlagError> {
    let (json, quiet) = (flags.switch("json")?, flags.switch("quiet")?);
    match (json, quiet, flags.switch("verbose")?) {
        (false, false, false) => Ok(Style::Normal),
        (true, false, false) => Ok(Style::Json),
        (false, true, false) => Ok(Style::Quiet),
        (false, false, true) => Ok(Style::Verbose),
        _ => Err(FlagError::Parse("one of --json, --quiet and --verbose is enough".to_owned())),
    }
}

fn options(flags: &Flags) -> Result<PushOptions, FlagError> {
    let options = PushOptions {
        level: flags.required("compression-level", |text| number(text, 1..=19))?,
        buffered: flags.required("max-buffered", size)?,
        multipart_threshold: flags.required("multipart-threshold", size)?,
        dry_run: flags.switch("dry-run")?,
        verify_s3: flags.switch("verify-s3-integrity")?,
        index_debug_info: flags.switch("index-debug-info")?,
    };
    // One compressor, the part that it fills and one that is on its way; bodies have half at the most.
    let least = (compressor_bytes(options.level, 1) + 2 * MIN_PART_BYTES).max(4 * MIN_PART_BYTES);
    if options.buffered < least {
        let (level, least) = (options.level, least.div_ceil(1024 * 1024));
        let why = format!("compression level {level} needs {least} MiB at the least");
        return Err(flags.invalid("max-buffered", why));
    }
    if options.multipart_threshold > MOST_IN_ONE_PUT {
        let most = human_bytes(MOST_IN_ONE_PUT);
        return Err(
            flags.invalid("multipart-threshold", format!("{most} at the most go in one PUT"))
        );
    }
    if options.dry_run && options.verify_s3 {
        let why = "it changes what the server believes; leave out --dry-run".to_owned();
        return Err(flags.invalid("verify-s3-integrity", why));
    }
    Ok(options)
}

fn number<T: FromStr + PartialOrd + fmt::Display>(
    text: &str,
    range: RangeInclusive<T>,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    let (from, to) = (range.start(), range.end());
    number.ok_or_else(|| format!("{text:?} is not a number from {from} to {to}"))
}

/// `100MB`, `256MiB`, `1.5G`; without a unit, bytes.
fn size(text: &str) -> Result<u64, String> {
    let size: Result<ByteSize, _> = text.parse();
    size.map(|size| size.as_u64())
        .map_err(|_| format!("{text:?} is not a size such as 100MB or 1GiB"))
}
