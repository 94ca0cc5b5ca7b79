//! Flags, environment and secret files become one checked [`Config`], before anything starts.

use std::{
    ffi::OsString, net::SocketAddr, num::NonZeroUsize, path::PathBuf, str::FromStr, time::Duration,
};

use niks3_core::{
    duration,
    flags::{Flag, FlagError, Flags, parse_bool},
    hash::ChecksumAlgorithm,
    limits::MAX_UPSTREAM_KEYS,
    resign::Resigning,
    signing::{PublicKey, PublicKeyError, SigningKey, valid_key_name},
    store_path::{StoreDir, StorePath, StorePathHash},
    wire::MetadataEncoding,
};
use url::Url;

use crate::{
    auth::Token,
    fsck::FsckOptions,
    s3::{BucketLookup, Credentials, HeaderByKind, ObjectHeaders, S3Config, Times},
    store::DatabaseUrl,
};

/// Presigned URLs of S3 live for seven days at most; ours are for one PUT each.
const MAX_URL_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// Bytes of a secret's file. A larger one is no token and no key.
const MAX_SECRET_BYTES: u64 = 16 * 1024;

/// Keys that one run of `niks3-server resign` replaces. Nobody has more in use.
const MAX_REPLACED: usize = 16;

/// The flags of `niks3-server`, each with its variable.
pub const FLAGS: &[Flag] = &[
    Flag::value("db", "URL", "PostgreSQL: postgres://user@host/database, or key=value pairs")
        .env("NIKS3_DB"),
    Flag::value("http-addr", "ADDRESS", "where to listen")
        .env("NIKS3_HTTP_ADDR")
        .default("127.0.0.1:5751"),
    Flag::value("s3-endpoint", "URL", "the S3 server, with or without https://")
        .env("NIKS3_S3_ENDPOINT"),
    Flag::value("s3-bucket", "NAME", "the bucket that is the cache").env("NIKS3_S3_BUCKET"),
    Flag::value("s3-region", "REGION", "the region that requests are signed for")
        .env("NIKS3_S3_REGION")
        .default("us-east-1"),
    Flag::value("s3-use-ssl", "BOOL", "https, where the endpoint does not say")
        .env("NIKS3_S3_USE_SSL")
        .default("true"),
    Flag::value("s3-bucket-lookup", "HOW", "auto, dns (bucket.host) or path (host/bucket)")
        .env("NIKS3_S3_BUCKET_LOOKUP")
        .default("auto"),
    Flag::value("s3-access-key", "KEY", "the access key's id").env("NIKS3_S3_ACCESS_KEY"),
    Flag::value("s3-access-key-path", "FILE", "the same from a file")
        .env("NIKS3_S3_ACCESS_KEY_PATH"),
    Flag::value("s3-secret-key", "KEY", "its secret; rather use a file").env("NIKS3_S3_SECRET_KEY"),
    Flag::value("s3-secret-key-path", "FILE", "the same from a file")
        .env("NIKS3_S3_SECRET_KEY_PATH"),
    Flag::value("s3-concurrency", "N", "requests to S3 at once")
        .env("NIKS3_S3_CONCURRENCY")
        .default("100"),
    Flag::value("s3-checksum", "HOW", "what S3 checks bodies by: md5, which all know, or sha256")
        .env("NIKS3_S3_CHECKSUM")
        .default("md5"),
    Flag::value(
        "api-token",
        "TOKEN",
        "lets callers push; 36 characters or more; rather use a file",
    )
    .env("NIKS3_API_TOKEN"),
    Flag::value("api-token-path", "FILE", "the same from a file").env("NIKS3_API_TOKEN_PATH"),
    Flag::value(
        "sign-key-path",
        "FILE",
        "a secret key of `nix key generate-secret`; each one signs",
    )
    .env("NIKS3_SIGN_KEY_PATHS")
    .repeatable(),
    Flag::value(
        "upstream-key",
        "KEY",
        "a public key of another cache that readers use too: paths that it has signed are left to that \
         cache; whole keys, repeatable",
    )
    .env("NIKS3_UPSTREAM_KEYS")
    .repeatable(),
    Flag::value("cache-url", "URL", "where readers find the bucket").env("NIKS3_CACHE_URL"),
    Flag::value("store-dir", "DIR", "the store directory that the cache is for")
        .env("NIX_STORE_DIR")
        .default("/nix/store"),
    Flag::value("metadata-encoding", "HOW", "zstd, or none for stores that drop Content-Encoding")
        .env("NIKS3_METADATA_ENCODING")
        .default("zstd"),
    Flag::value(
        "cache-control",
        "KIND=VALUE",
        "Cache-Control of nar, narinfo, listing, log, realisation or debuginfo; none if VALUE is empty",
    )
    .env("NIKS3_CACHE_CONTROL")
    .repeatable()
    .lines(),
    Flag::value("content-type", "KIND=VALUE", "Content-Type of objects of the same kinds")
        .env("NIKS3_CONTENT_TYPE")
        .repeatable()
        .lines(),
    Flag::value("url-lifetime", "DURATION", "how long presigned URLs are good for")
        .env("NIKS3_URL_LIFETIME")
        .default("30m"),
    Flag::value(
        "s3-slack",
        "DURATION",
        "how long after its URL has expired a request may still take effect; a third of it is how far \
         the clocks of database and S3 may be apart",
    )
    .env("NIKS3_S3_SLACK")
    .default("90s"),
    Flag::switch("debug", "log each call").env("NIKS3_DEBUG"),
];

/// The flags of `niks3-server fsck` beside those of [`fsck_flags`].
pub const FSCK_FLAGS: &[Flag] = &[
    Flag::switch("s3", "look at the bucket too: lists all of it"),
    Flag::switch("repair", "repair what is wrong"),
    Flag::switch(
        "missing-are-external",
        "with --s3 --repair, where --upstream-key is in use and the database was lost: a reference that \
         is not in the bucket is a path of another cache",
    ),
    Flag::switch("json", "print one JSON object"),
];

/// The flags of `niks3-server fsck`: what the server is told of database and bucket, and its own. It needs
/// neither token nor key.
#[must_use]
pub fn fsck_flags() -> Vec<Flag> {
    FLAGS.iter().filter(|flag| is_shared(flag)).chain(FSCK_FLAGS).copied().collect()
}

/// The flags of `niks3-server forget` beside those of database and bucket.
pub const FORGET_FLAGS: &[Flag] =
    &[Flag::switch("with-referrers", "forget all paths that refer to them too")];

/// The flags of `niks3-server forget`.
#[must_use]
pub fn forget_flags() -> Vec<Flag> {
    FLAGS.iter().filter(|flag| is_shared(flag)).chain(FORGET_FLAGS).copied().collect()
}

/// The flags of `niks3-server resign` beside those of database, bucket and keys.
pub const RESIGN_FLAGS: &[Flag] = &[
    Flag::switch("add", "add a signature by each key, beside those that are there; the default"),
    Flag::value("replace", "NAME", "remove the signatures by the key of this name, and add those")
        .repeatable(),
    Flag::switch("json", "print one JSON object"),
];

/// The flags of `niks3-server resign`.
#[must_use]
pub fn resign_flags() -> Vec<Flag> {
    let wanted = |flag: &&Flag| is_shared(flag) || flag.name == "sign-key-path";
    FLAGS.iter().filter(wanted).chain(RESIGN_FLAGS).copied().collect()
}

/// What a command beside the server needs of the server's flags.
fn is_shared(flag: &Flag) -> bool {
    let shared = [
        "db",
        "store-dir",
        "metadata-encoding",
        "cache-control",
        "content-type",
        "url-lifetime",
        "debug",
    ];
    shared.contains(&flag.name) || flag.name.starts_with("s3-")
}

/// All that `niks3-server fsck`, `forget` and `resign` need to know of the cache.
#[derive(Debug)]
pub struct FsckConfig {
    /// `--db`
    pub database: DatabaseUrl,
    /// `--s3-…`, `--metadata-encoding`
    pub s3: S3Config,
    /// `--store-dir`
    pub store_dir: StoreDir,
    /// `--debug`
    pub debug: bool,
}

impl FsckConfig {
    /// Reads the secrets' files and checks everything.
    ///
    /// # Errors
    /// With the first setting that is missing or wrong, by its flag and variable.
    pub fn from_flags(flags: &Flags) -> Result<Self, FlagError> {
        Ok(Self {
            database: database(flags)?,
            s3: s3(flags)?,
            store_dir: store_dir(flags)?,
            debug: flags.switch("debug")?,
        })
    }
}

/// What `niks3-server fsck` shall do.
///
/// # Errors
/// When a switch is not on or off.
pub fn fsck_options(flags: &Flags) -> Result<FsckOptions, FlagError> {
    Ok(FsckOptions {
        s3: flags.switch("s3")?,
        repair: flags.switch("repair")?,
        external: flags.switch("missing-are-external")?,
        json: flags.switch("json")?,
    })
}

/// What `niks3-server forget` shall forget: whole paths, base names or hash parts; and whether with all
/// that refers to them.
///
/// # Errors
/// When one of them is none of these, or there is none.
pub fn forget_options(
    flags: &Flags,
    store_dir: &StoreDir,
) -> Result<(Vec<StorePathHash>, bool), FlagError> {
    let hash = |path: &OsString| {
        let text = path.to_str()?;
        let whole = StorePath::from_absolute(store_dir, text).ok();
        let named = || text.parse::<StorePath>().ok();
        whole.or_else(named).map(|path| path.hash()).or_else(|| text.parse().ok())
    };
    let mut paths = Vec::new();
    for path in &flags.arguments {
        paths.push(hash(path).ok_or_else(|| {
            FlagError::Parse(format!("{} is no store path", path.to_string_lossy()))
        })?);
    }
    if paths.is_empty() {
        return Err(FlagError::Parse("no path to forget; see --help".to_owned()));
    }
    Ok((paths, flags.switch("with-referrers")?))
}

/// What `niks3-server resign` shall do, and whether it reports in JSON.
///
/// # Errors
/// When there is no key and none to remove, or a name can be no key's.
pub fn resign_options(flags: &Flags) -> Result<(Resigning, bool), FlagError> {
    let remove = flags.each("replace", MAX_REPLACED, |name| match valid_key_name(name) {
        true => Ok(name.to_owned()),
        false => {
            Err(format!("{name:?} is not the name of a key, which is what stands before its colon"))
        }
    })?;
    if flags.switch("add")? && !remove.is_empty() {
        return Err(
            flags.invalid("add", "--replace is given too, which adds as well; leave one out")
        );
    }
    // Without a key signatures are removed only, from what has others.
    let without = !remove.is_empty() && flags.is_absent("sign-key-path");
    let keys = if without { Vec::new() } else { signing_keys(flags)? };
    Ok((Resigning { remove, keys }, flags.switch("json")?))
}

/// All that the server needs to know, complete and checked.
#[derive(Debug)]
pub struct Config {
    /// `--db`
    pub database: DatabaseUrl,
    /// `--http-addr`
    pub http_addr: SocketAddr,
    /// `--s3-…`, `--metadata-encoding`
    pub s3: S3Config,
    /// `--api-token[-path]`
    pub api_token: Token,
    /// `--sign-key-path`
    pub signing_keys: Vec<SigningKey>,
    /// `--upstream-key`
    pub upstream_keys: Vec<PublicKey>,
    /// `--cache-url`
    pub cache_url: Option<Url>,
    /// `--store-dir`
    pub store_dir: StoreDir,
    /// `--debug`
    pub debug: bool,
}

impl Config {
    /// Reads the secrets' files and checks everything.
    ///
    /// # Errors
    /// With the first setting that is missing or wrong, by its flag and variable.
    pub fn from_flags(flags: &Flags) -> Result<Self, FlagError> {
        Ok(Self {
            database: database(flags)?,
            http_addr: flags.required("http-addr", |text| {
                from_str(text, "an address such as 127.0.0.1:5751 or [::]:5751")
            })?,
            s3: s3(flags)?,
            api_token: {
                let token = secret(flags, "api-token", "api-token-path")?;
                token.parse().map_err(|error: crate::auth::TokenError| {
                    given_by(flags, "api-token", "api-token-path", error.to_string())
                })?
            },
            signing_keys: signing_keys(flags)?,
            upstream_keys: flags.each("upstream-key", MAX_UPSTREAM_KEYS, |text| {
                text.parse().map_err(|why: PublicKeyError| why.to_string())
            })?,
            cache_url: flags.parsed("cache-url", |text| from_str(text, "a URL"))?,
            store_dir: store_dir(flags)?,
            debug: flags.switch("debug")?,
        })
    }
}

/// The database alone: all that `niks3-server migrate` needs.
///
/// # Errors
/// When it is missing or cannot be understood.
pub fn database(flags: &Flags) -> Result<DatabaseUrl, FlagError> {
    flags.required("db", |text| DatabaseUrl::from_str(text).map_err(|error| error.to_string()))
}

fn store_dir(flags: &Flags) -> Result<StoreDir, FlagError> {
    flags.required("store-dir", |text| StoreDir::new(text).map_err(|error| error.to_string()))
}

fn from_str<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not {what}"))
}

fn url_lifetime(flags: &Flags) -> Result<Duration, FlagError> {
    let lifetime = flags.required("url-lifetime", duration::parse)?;
    if lifetime > MAX_URL_LIFETIME {
        return Err(flags.invalid("url-lifetime", "it must be 12h at most"));
    }
    Ok(lifetime)
}

fn s3(flags: &Flags) -> Result<S3Config, FlagError> {
    let use_ssl = flags.required("s3-use-ssl", parse_bool)?;
    Ok(S3Config {
        endpoint: flags.required("s3-endpoint", |text| endpoint(text, use_ssl))?,
        bucket: flags.required("s3-bucket", |text| Ok(text.to_owned()))?,
        region: flags.required("s3-region", |text| Ok(text.to_owned()))?,
        lookup: flags.required("s3-bucket-lookup", |text| match text {
            "auto" => Ok(BucketLookup::Auto),
            "dns" => Ok(BucketLookup::Dns),
            "path" => Ok(BucketLookup::Path),
            other => Err(format!("{other:?} is none of auto, dns and path")),
        })?,
        credentials: Credentials {
            access_key: secret(flags, "s3-access-key", "s3-access-key-path")?,
            secret_key: secret(flags, "s3-secret-key", "s3-secret-key-path")?,
        },
        concurrency: flags.required("s3-concurrency", |text| {
            from_str::<NonZeroUsize>(text, "a number of at least 1")
        })?,
        times: Times {
            url_lifetime: url_lifetime(flags)?,
            slack: flags.required("s3-slack", duration::parse)?,
        },
        checksum: flags.required("s3-checksum", |text| match text {
            "md5" => Ok(ChecksumAlgorithm::Md5),
            "sha256" => Ok(ChecksumAlgorithm::Sha256),
            other => Err(format!("{other:?} is neither md5 nor sha256")),
        })?,
        metadata_encoding: flags.required("metadata-encoding", |text| match text {
            "zstd" => Ok(MetadataEncoding::Zstd),
            "none" => Ok(MetadataEncoding::None),
            other => Err(format!("{other:?} is neither zstd nor none")),
        })?,
        headers: ObjectHeaders {
            cache_control: header_by_kind(flags, "cache-control")?,
            content_type: header_by_kind(flags, "content-type")?,
        },
    })
}

fn header_by_kind(flags: &Flags, name: &str) -> Result<HeaderByKind, FlagError> {
    let mut by_kind = HeaderByKind::default();
    for text in flags.all(name) {
        let text = text.to_str().ok_or_else(|| flags.invalid(name, "it is not UTF-8"))?;
        by_kind.add(text).map_err(|why| flags.invalid(name, why))?;
    }
    Ok(by_kind)
}

/// `s3.example.org`, `localhost:9000` or a whole URL, which then decides about TLS itself.
fn endpoint(text: &str, use_ssl: bool) -> Result<Url, String> {
    let with_scheme = match (text.contains("://"), use_ssl) {
        (true, _) => text.to_owned(),
        (false, true) => format!("https://{text}"),
        (false, false) => format!("http://{text}"),
    };
    let url: Url = from_str(&with_scheme, "a URL or host such as s3.example.org")?;
    match (url.scheme(), url.host_str()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err(format!("{text:?} is not an http(s) URL")),
    }
}

/// A secret that is given itself or by a file, one of the two.
fn secret(flags: &Flags, plain: &str, path: &str) -> Result<String, FlagError> {
    match (flags.is_absent(plain), flags.is_absent(path)) {
        (true, true) => Err(flags.missing(path)),
        (false, true) => flags.required(plain, |text| Ok(text.to_owned())),
        (false, false) => {
            Err(flags.invalid(path, format!("--{plain} is given too; leave one out")))
        }
        (true, false) => {
            let file = flags.all(path).last().cloned().unwrap_or_default();
            read_secret(&file).map_err(|why| flags.invalid(path, why))
        }
    }
}

fn given_by(flags: &Flags, plain: &str, path: &str, why: String) -> FlagError {
    flags.invalid(if flags.is_absent(plain) { path } else { plain }, why)
}

fn read_secret(file: &OsString) -> Result<String, String> {
    let path = PathBuf::from(file);
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let size = std::fs::metadata(&path).map_err(failed)?.len();
    if size > MAX_SECRET_BYTES {
        return Err(format!("{} has {size} bytes, too many for a secret", path.display()));
    }
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let text = text.trim();
    if text.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(text.to_owned()) }
}

fn signing_keys(flags: &Flags) -> Result<Vec<SigningKey>, FlagError> {
    let name = "sign-key-path";
    let mut keys: Vec<SigningKey> = Vec::new();
    for file in flags.all(name) {
        let text = read_secret(file).map_err(|why| flags.invalid(name, why))?;
        let key: SigningKey = text.parse().map_err(|why| {
            flags.invalid(name, format!("{} is no signing key: {why}", file.display()))
        })?;
        if keys.iter().any(|known| known.name() == key.name()) {
            let why =
                format!("two keys have the name {}; readers need to tell them apart", key.name());
            return Err(flags.invalid(name, why));
        }
        keys.push(key);
    }
    if keys.is_empty() { Err(flags.missing(name)) } else { Ok(keys) }
}
