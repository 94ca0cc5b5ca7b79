//! `niks3-server dev`: a complete cache on one machine, with no set-up.
//!
//! Everything lies in the state folder: PostgreSQL's cluster, the bucket, a signing key and a
//! token. They are made on first start and kept.

pub mod postgres;
pub mod s3;
mod secrets;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use niks3_core::{
    flags::{Flag, FlagError, Flags},
    hash::ChecksumAlgorithm,
    store_path::StoreDir,
    wire::MetadataEncoding,
};
use tokio::net::TcpListener;

use self::{
    postgres::{Postgres, PostgresError, PostgresOptions},
    s3::{EmbeddedS3, EmbeddedS3Error, S3Options},
    secrets::Secrets,
};
use crate::{
    ServerError,
    config::Config,
    s3::{BucketLookup, ObjectHeaders, S3Config, Times},
    store::DatabaseUrlError,
};

/// The bucket's name.
const BUCKET: &str = "niks3";
/// The database's name.
const DATABASE: &str = "niks3";
/// Presigned URLs of a development cache.
const URL_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// Embedded S3 runs by the same clock, so slow requests are all that it allows for.
const S3_SLACK: Duration = Duration::from_secs(60);
/// Requests to the embedded S3 at once: it is one folder on one disk.
const S3_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// The flags of `niks3-server dev`.
pub const FLAGS: &[Flag] = &[
    Flag::value("state-dir", "DIR", "where everything is kept")
        .env("NIKS3_DEV_STATE_DIR")
        .default(".data"),
    Flag::value("http-addr", "ADDRESS", "where the server listens")
        .env("NIKS3_HTTP_ADDR")
        .default("127.0.0.1:5751"),
    Flag::value("s3-addr", "ADDRESS", "where the S3 endpoint listens, for Nix to read from")
        .env("NIKS3_DEV_S3_ADDR")
        .default("127.0.0.1:5752"),
    Flag::value("store-dir", "DIR", "the store directory that the cache is for")
        .env("NIX_STORE_DIR")
        .default("/nix/store"),
    Flag::switch("debug", "log each call").env("NIKS3_DEBUG"),
];

/// What `niks3-server dev` was asked for.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// `--state-dir`
    pub state_dir: PathBuf,
    /// `--http-addr`
    pub http_addr: SocketAddr,
    /// `--s3-addr`
    pub s3_addr: SocketAddr,
    /// `--store-dir`
    pub store_dir: StoreDir,
    /// `--debug`
    pub debug: bool,
}

/// Why the development cache did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The state folder or what lies in it.
    #[error("cannot use {path}, given by --state-dir (NIKS3_DEV_STATE_DIR)")]
    State {
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A signing key that was changed by hand.
    #[error("{0} holds no signing key; remove it and a new one is made")]
    Key(PathBuf),
    /// PostgreSQL.
    #[error("cannot start a PostgreSQL of our own")]
    Postgres(#[from] PostgresError),
    /// The database's URL.
    #[error("cannot use that PostgreSQL")]
    Database(#[from] DatabaseUrlError),
    /// The S3 endpoint.
    #[error("cannot start an S3 endpoint of our own")]
    S3(#[from] EmbeddedS3Error),
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl DevError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Postgres(error) => error.hint(),
            Self::S3(error) => error.hint(),
            Self::Server(ServerError::Listen { .. }) => {
                Some("another one may be running; choose another --http-addr".to_owned())
            }
            _ => None,
        }
    }
}

impl DevOptions {
    /// Checks the flags.
    ///
    /// # Errors
    /// With the first one that is wrong.
    pub fn from_flags(flags: &Flags) -> Result<Self, FlagError> {
        let address = |name| {
            flags.required(name, |text| {
                text.parse().map_err(|_| format!("{text:?} is not an address like 127.0.0.1:5751"))
            })
        };
        Ok(Self {
            state_dir: flags.required("state-dir", |text| {
                std::path::absolute(text).map_err(|error| format!("{text:?}: {error}"))
            })?,
            http_addr: address("http-addr")?,
            s3_addr: address("s3-addr")?,
            store_dir: flags.required("store-dir", |text| {
                StoreDir::new(text).map_err(|error| error.to_string())
            })?,
            debug: flags.switch("debug")?,
        })
    }
}

/// Starts PostgreSQL, S3 and the server, says how to use them, and stops all three when
/// `shutdown` is ready.
///
/// # Errors
/// When one of them does not start, or the server fails.
pub async fn run(
    options: DevOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), DevError> {
    let secrets = Secrets::load_or_make(&options.state_dir)?;
    let address = options.http_addr;
    let listener = TcpListener::bind(address).await.map_err(|source| {
        DevError::Server(ServerError::Listen { address: address.to_string(), source })
    })?;
    let address = listener.local_addr().unwrap_or(address);
    let s3 = EmbeddedS3::start(S3Options {
        root: options.state_dir.join("s3"),
        buckets: vec![BUCKET.to_owned()],
        access_key: secrets.s3.access_key.clone(),
        secret_key: secrets.s3.secret_key.clone(),
        listen: options.s3_addr,
    })
    .await?;
    let postgres = Postgres::start(PostgresOptions {
        data_dir: options.state_dir.join("postgres"),
        settings: Vec::new(),
    })
    .await?;
    let served = serve(&options, secrets, &s3, &postgres, listener, address, shutdown).await;
    // The server has drained by now: its database and bucket may go.
    s3.stop().await;
    postgres.stop().await;
    served
}

async fn serve(
    options: &DevOptions,
    secrets: Secrets,
    s3: &EmbeddedS3,
    postgres: &Postgres,
    listener: TcpListener,
    address: SocketAddr,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), DevError> {
    postgres.create_database_if_absent(DATABASE).await?;
    let endpoint = s3.endpoint();
    let welcome =
        welcome(&options.state_dir, address, &endpoint, &secrets.signing_key.public_key());
    let config = Config {
        upstream_keys: Vec::new(),
        database: postgres.connection_string(DATABASE).parse()?,
        http_addr: address,
        s3: S3Config {
            endpoint: endpoint.parse().expect("an address makes a URL"),
            bucket: BUCKET.to_owned(),
            region: "us-east-1".to_owned(),
            lookup: BucketLookup::Path,
            credentials: secrets.s3,
            concurrency: S3_CONCURRENCY,
            times: Times { url_lifetime: URL_LIFETIME, slack: S3_SLACK },
            checksum: ChecksumAlgorithm::default(),
            metadata_encoding: MetadataEncoding::Zstd,
            headers: ObjectHeaders::default(),
        },
        api_token: secrets.api_token,
        signing_keys: vec![secrets.signing_key],
        cache_url: format!("{endpoint}/{BUCKET}").parse().ok(),
        store_dir: options.store_dir.clone(),
        debug: options.debug,
    };
    println!("{welcome}");
    Ok(crate::run(config, listener, shutdown).await?)
}

/// The commands to push and to substitute, as they stand.
fn welcome(state: &Path, address: SocketAddr, endpoint: &str, public_key: &str) -> String {
    let token = state.join(secrets::TOKEN_FILE);
    format!(
        "A Nix binary cache on this machine; Ctrl-C stops it, {state} keeps it.\n\
         \n\
         push:        niks3 push --server-url http://{address} --auth-token-path {token} ./result\n\
         substitute:  nix copy --from {endpoint}/{BUCKET} \\\n\
         \x20              --option trusted-public-keys '{public_key}' /nix/store/…\n\
         or in nix.conf:\n\
         \x20 extra-substituters = {endpoint}/{BUCKET}\n\
         \x20 extra-trusted-public-keys = {public_key}\n",
        state = state.display(),
        token = token.display(),
    )
}
