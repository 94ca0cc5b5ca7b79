//! Brings the schema up to date.

use refinery::{embed_migrations, error::Kind};

use super::{Store, StoreError};

embed_migrations!("../migrations");

/// The advisory lock that servers starting at the same time take turns on: refinery takes none.
/// "niks3mig" in ASCII.
const MIGRATION_LOCK: i64 = 0x6e69_6b73_336d_6967;

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection, or the lock could not be taken.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lock's own query.
    #[error("cannot take the migration lock")]
    Lock(#[source] tokio_postgres::Error),
    /// Another server has brought the schema further than this one knows.
    #[error(
        "the database schema is newer than this server: it has the migration {0}, which this \
         server does not know; run a server that is at least as new"
    )]
    Newer(String),
    /// A migration failed, or one that was applied has changed since.
    #[error("cannot bring the database schema up to date")]
    Apply(#[source] Box<refinery::Error>),
}

/// Applies the migrations that are missing. Returns their names.
///
/// # Errors
/// When one fails (nothing of it is kept), and when the schema is newer than this server.
pub async fn migrate(store: &Store) -> Result<Vec<String>, MigrateError> {
    let mut connection = store.connection().await?;
    let client: &mut tokio_postgres::Client = &mut connection.0;
    // A long migration is no stuck statement, and waiting for another server's is no fault.
    let session = "SET lock_timeout = 0; SET statement_timeout = 0";
    client.batch_execute(session).await.map_err(MigrateError::Lock)?;
    let lock = "SELECT pg_advisory_lock($1)";
    client.execute(lock, &[&MIGRATION_LOCK]).await.map_err(MigrateError::Lock)?;
    let report = migrations::runner().set_abort_missing(true).run_async(client).await;
    // The lock and the settings go with the session, which is not used again.
    let _ = deadpool_postgres::Object::take(connection.0);
    let report = report.map_err(|error| match error.kind() {
        Kind::MissingVersion(migration) => MigrateError::Newer(migration.to_string()),
        _ => MigrateError::Apply(Box::new(error)),
    })?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}
