//! From `--db` to a pool of connections.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use tokio_postgres::{Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use super::{LOCK_TIMEOUT, Store};

/// Connections at once. Transactions are short, so this serves hundreds of calls; PostgreSQL's
/// default limit of 100 leaves room for several servers.
const MAX_CONNECTIONS: usize = 16;

/// How long a call waits for a free connection, or for a new one to be made.
const CONNECTION_WAIT: Duration = Duration::from_secs(15);

/// No statement of ours takes nearly as long; one that does is stuck.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the database is: `--db`. Its `Debug` shows nothing, since it may hold a password.
#[derive(Clone)]
pub struct DatabaseUrl {
    config: Config,
    root_cert: Option<PathBuf>,
}

/// What is wrong with a database URL. Never contains the URL.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Neither a URL nor `key=value` pairs.
    #[error("it is neither postgres://user@host/database nor host=… user=… dbname=…: {0}")]
    Parse(tokio_postgres::Error),
    /// The file named by `sslrootcert`.
    #[error("cannot use sslrootcert {path}: {why}")]
    RootCert {
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let (text, root_cert) = without_libpq_tls(text);
        let config: Config = text.parse().map_err(DatabaseUrlError::Parse)?;
        Ok(Self { config, root_cert })
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

impl DatabaseUrl {
    /// A pool for this database. Connects when the first connection is asked for.
    ///
    /// # Errors
    /// When TLS is asked for and its certificates cannot be read.
    pub fn pool(mut self) -> Result<Store, DatabaseUrlError> {
        // Reads go by index, always: statistics are stale exactly when a great deal has changed,
        // and a plan that follows them then reads whole tables. Compiling a query takes longer
        // than any of ours runs, but the planner's estimates of key ranges make it worth it.
        // And each execution is planned anew, by how large the tables are now: a session that planned
        // a query while the cache was new would go on like that, and read all of it for each row.
        let ours = format!(
            "-c lock_timeout={} -c statement_timeout={} -c idle_in_transaction_session_timeout={} \
             -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off \
             -c plan_cache_mode=force_custom_plan -c jit=off -c max_parallel_workers_per_gather=0",
            LOCK_TIMEOUT.as_millis(),
            STATEMENT_TIMEOUT.as_millis(),
            STATEMENT_TIMEOUT.as_millis(),
        );
        let options = match self.config.get_options() {
            Some(theirs) => format!("{ours} {theirs}"),
            None => ours,
        };
        self.config.options(options);
        if self.config.get_application_name().is_none() {
            self.config.application_name("niks3-server");
        }
        if self.config.get_connect_timeout().is_none() {
            self.config.connect_timeout(CONNECTION_WAIT);
        }
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = if self.config.get_ssl_mode() == SslMode::Require {
            let tls = MakeRustlsConnect::new(tls_config(self.root_cert)?);
            Manager::from_config(self.config, tls, recycle)
        } else {
            Manager::from_config(self.config, NoTls, recycle)
        };
        let timeouts = Timeouts {
            wait: Some(CONNECTION_WAIT),
            create: Some(CONNECTION_WAIT),
            recycle: Some(CONNECTION_WAIT),
        };
        let pool = Pool::builder(manager)
            .max_size(MAX_CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .timeouts(timeouts)
            .build()
            .expect("a runtime is given, which is all that can be missing");
        Ok(Store { pool })
    }
}

/// tokio-postgres knows neither `sslrootcert` nor `sslmode=verify-*`. With TLS we always verify,
/// so those modes are `require`; and the certificate file is ours to read.
fn without_libpq_tls(text: &str) -> (String, Option<PathBuf>) {
    let mode =
        |value: &str| value.replace("verify-full", "require").replace("verify-ca", "require");
    let mut root_cert = None;
    if let Ok(mut url) = text.parse::<Url>() {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        url.set_query(None);
        for (name, value) in pairs {
            match name.as_str() {
                "sslrootcert" => root_cert = Some(PathBuf::from(value)),
                "sslmode" => drop(url.query_pairs_mut().append_pair(&name, &mode(&value))),
                _ => drop(url.query_pairs_mut().append_pair(&name, &value)),
            }
        }
        return (url.into(), root_cert);
    }
    let rest: Vec<String> = text
        .split_whitespace()
        .filter_map(|pair| match pair.split_once('=') {
            Some(("sslrootcert", path)) => {
                root_cert = Some(PathBuf::from(path.trim_matches('\'')));
                None
            }
            Some(("sslmode", value)) => Some(format!("sslmode={}", mode(value))),
            _ => Some(pair.to_owned()),
        })
        .collect();
    (rest.join(" "), root_cert)
}

fn tls_config(root_cert: Option<PathBuf>) -> Result<ClientConfig, DatabaseUrlError> {
    let mut roots = RootCertStore::empty();
    match root_cert {
        Some(path) => {
            let failed = |why: String| DatabaseUrlError::RootCert { path: path.clone(), why };
            let certs = CertificateDer::pem_file_iter(&path).map_err(|e| failed(e.to_string()))?;
            for cert in certs {
                let cert = cert.map_err(|e| failed(e.to_string()))?;
                roots.add(cert).map_err(|e| failed(e.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libpq_takes_for_tls_is_understood() {
        for (text, mode, cert) in [
            ("postgres://me@db/niks3", SslMode::Prefer, None),
            ("postgres://me@db/niks3?sslmode=verify-full", SslMode::Require, None),
            (
                "postgres://me@db/niks3?sslrootcert=/etc/ca.pem&sslmode=verify-full",
                SslMode::Require,
                Some("/etc/ca.pem"),
            ),
            (
                "postgres://me@db/niks3?sslrootcert=%2Fetc%2Fca.pem&sslmode=require",
                SslMode::Require,
                Some("/etc/ca.pem"),
            ),
            ("postgres:///niks3?host=%2Frun%2Fpostgresql&user=me", SslMode::Prefer, None),
            (
                "host=db user=me sslmode=verify-ca sslrootcert=/etc/ca.pem",
                SslMode::Require,
                Some("/etc/ca.pem"),
            ),
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url.config.get_ssl_mode(), mode, "{text}");
            assert_eq!(url.root_cert, cert.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url: DatabaseUrl = "postgres://me:hunter2@db/niks3".parse().unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
        let error = "postgres://me:hunter2@db:port/x".parse::<DatabaseUrl>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
