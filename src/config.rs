//! Flags, environment and files become one checked [`PushConfig`].

use std::{
    ffi::OsString, fmt, num::NonZeroUsize, ops::RangeInclusive, path::PathBuf, str::FromStr,
};

use bytesize::ByteSize;
use glob::Pattern;
use niks3_core::{
    flags::{FlagError, Flags},
    parts::MIN_PART_BYTES,
};
use url::Url;

use crate::{
    api::TokenSources,
    nix::{StoreSettings, Want},
    pack::compressor_bytes,
    push::{PushOptions, Style, human_bytes, select::LeaveOut},
};

/// Bytes of a NAR that is sent in one PUT, whatever is asked for: it waits in a temporary file.
const MOST_IN_ONE_PUT: u64 = 4_000_000_000;

/// Requests to S3 at once, whatever is asked for: each takes a connection.
const MAX_UPLOADS: NonZeroUsize = NonZeroUsize::new(1000).unwrap();

/// What `copy` and `push` need to know.
#[derive(Clone, Debug)]
pub struct PushConfig {
    /// The niks3 server.
    pub server: Url,
    /// Where its token is.
    pub token: TokenSources,
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
        let not_utf8 = |arg: &OsString| {
            let arg = arg.to_string_lossy();
            FlagError::Parse(format!("{arg:?} is not UTF-8, so it names nothing in a Nix store"))
        };
        let text = |arg: &OsString| arg.to_str().map(str::to_owned).ok_or_else(|| not_utf8(arg));
        if !flags.is_absent("auth-token-path") && !flags.is_absent("auth-token-script") {
            return Err(flags.invalid(
                "auth-token-script",
                "give either this or --auth-token-path (NIKS3_AUTH_TOKEN_FILE), not both",
            ));
        }
        let store = flags.text("store")?;
        let derivation = flags.switch("derivation")?;
        let config = Self {
            server: flags.required(url, server_url)?,
            token: TokenSources {
                file: flags.all("auth-token-path").last().map(PathBuf::from),
                script: flags.all("auth-token-script").last().map(PathBuf::from),
                plain: env("NIKS3_AUTH_TOKEN").filter(|token| !token.is_empty()),
                default_file: config_home(&env).map(|dir| dir.join("niks3/auth-token")),
            },
            store: StoreSettings::new(store.as_deref(), &env)
                .map_err(|error| flags.invalid("store", error.to_string()))?,
            installables: flags.arguments.iter().map(text).collect::<Result<_, _>>()?,
            stdin: flags.switch("stdin")?,
            all: flags.switch("all")?,
            want: if derivation { Want::Derivation } else { Want::Outputs },
            leave_out: LeaveOut {
                names: patterns(flags)?,
                larger_than: flags.parsed("max-nar-size", size)?,
            },
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

/// People who know `nix copy` give the bucket here.
fn server_url(text: &str) -> Result<Url, String> {
    match text.parse::<Url>() {
        // Errors and logs name the server: nothing secret may be in its URL.
        Ok(url)
            if !url.username().is_empty()
                || url.password().is_some()
                || url.query().is_some()
                || url.fragment().is_some() =>
        {
            Err("the niks3 server's URL has no user, password, query or fragment; the token goes \
                 into a file, see --auth-token-path"
                .to_owned())
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        Ok(url) => Err(format!(
            "{}: URLs are a store's; give the https:// URL of the niks3 server, which knows the \
             bucket and signs for it",
            url.scheme()
        )),
        Err(_) if text.contains('@') => {
            Err("it is not the URL of a niks3 server, such as https://host".to_owned())
        }
        Err(_) => Err(format!("{text:?} is not the URL of a niks3 server, such as https://host")),
    }
}

fn config_home(env: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let given = env("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    given.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".config")))
}
