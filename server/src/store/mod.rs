//! All SQL. One function runs one file of `sql/`; the caller opens the transaction, so that its
//! borders are in plain sight. Knows nothing of our API, nor of S3.
//!
//! Everything runs at READ COMMITTED: each statement sees what was committed before it began, so
//! "take the lock, then ask in the next statement" holds.

mod attach;
mod attachments;
mod claims;
mod closures;
mod collection_lock;
mod collections;
mod connect;
mod counts;
mod forget;
mod fsck;
mod garbage;
mod holds;
mod identity;
mod lost;
mod migrate;
mod multiparts;
mod narinfos;
mod objects;
mod optional;
mod pins;
mod plan;
mod preview;
mod pushed;
#[cfg(test)]
mod query_plans;
mod repair;
mod resign;
mod retry;
mod session_lock;
mod texts;
mod uploads;

use std::time::Duration;

use deadpool_postgres::{GenericClient, Object, Pool, Transaction};
use tokio_postgres::{Row, types::ToSql};

pub use attach::{
    ComposableAttachment, ComposedAttachment, NextAttachment, attach, compose_attachments,
    finish_attachments, lock_composable_attachments, next_attachments,
};
pub use attachments::{
    PlannedAttachment, adopt_attachment, hold_attachments, lacking, realisations_of,
    stored_realisations,
};
pub use claims::{Claim, Forgotten, claim, delete_claimed, lapse_claims, next_condemned};
pub use closures::{Roots, push_closures, roots, unpublished};
pub use collection_lock::CollectionLock;
pub use collections::{close_collection, last_collection, note_progress, open_collection};
pub use connect::{DatabaseUrl, DatabaseUrlError};
pub use counts::{cache_size, compact_all_counts, compact_counts};
pub use forget::{Forgettable, forget_narinfos, forgettable, still_there};
pub use fsck::{
    Check, KnownObject, KnownPin, Wrong, abandoned_narinfos, begin_checks, check, objects_after,
    objects_of, pins_after, pins_named,
};
pub use garbage::{
    Condemned, TOP, condemn, ended_uploads, expire_closures, fail_silent_uploads, forget_uploads,
};
pub use holds::{RELEASE_CHUNK, forget_paths, release};
pub use identity::{
    Cluster, Generation, Identity, confirm_generation, first_identity, identity, record_identity,
    set_next_generation,
};
pub use lost::{Recorded, recorded, recorded_nars, void_lost};
pub use migrate::{MigrateError, migrate};
pub use multiparts::{
    Multipart, ended_multiparts, forget_multiparts, insert_large_nars, multipart_opened,
    multiparts_of, other_multiparts, own_multiparts, unused_multiparts,
};
pub use narinfos::{
    Composable, Composed, NextPath, Token, compose, lock_composable, mark_done, next_paths,
    progress, take_unpublished,
};
pub use objects::{
    NarRow, OwnObject, Sent, adopt_nars, count_own_nars, hold_and_write, insert_nars, mark_sent,
    mark_stored, own_nars, own_objects, planned_nars,
};
pub use optional::{
    OptionalRow, PlannedOptional, insert_optional_rows, is_optional, link_optional,
    mark_no_listing, planned_optional, take_optional,
};
pub use pins::{
    LockedPin, Pinnable, TakenPin, Target, Unsure, due_pins, insert_pin, list_pins, lock_pin,
    note_pin_failure, note_pin_file, pinnable, pins_of, take_pin,
};
pub use plan::{
    PathStatus, PlanRow, hold_paths, insert_narinfo_rows, log_of, record_paths, revive, status,
};
pub use preview::preview;
pub use pushed::{
    ClosureSize, PushedClosure, closure_id, count_closure, expire_closure, find_closure,
    list_closures,
};
pub use repair::{
    Adoptable, adopt_garbage, adopt_narinfo, adopt_object, adopt_pin, adoptable, claim_unpublished,
    doubt_pin, drop_dangling, narinfo_rows, narinfo_texts, note_candidates, recorded_by_id,
    referrers, release_claim, republishable, revive_needed, void_narinfos,
};
pub use resign::{
    Resigned, SignedPage, mark_resigned, record_resigned, resign_lock, signed_after, take_resigned,
};
pub use retry::retry;
pub use session_lock::SessionLock;
pub use texts::{RecordedText, Unpublished, recorded_texts};
pub use uploads::{
    MAX_OPEN_UPLOADS, MAX_PLANNED_PATHS, Upload, UploadState, finish, lock, open, open_uploads,
    roots_of, set_roots,
};

/// How long a statement waits for a lock before the transaction is rolled back and tried again.
/// Longer than any of our transactions holds one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The gate's key among advisory locks: "niks3gat" in ASCII.
const GATE: i64 = 0x6e69_6b73_3367_6174;

/// What can go wrong between the server and PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection to be had.
    #[error("cannot connect to the database")]
    Connect(#[source] deadpool_postgres::PoolError),
    /// A statement failed.
    #[error("a database query failed ({what})")]
    Query {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// What came out of the database is not what went in.
    #[error("the database holds {what} that cannot be read: {text:?}")]
    Corrupt {
        /// What it should be.
        what: &'static str,
        /// What it is.
        text: String,
    },
    /// A query that always answers a row answered none.
    #[error("a database query answered no row ({0})")]
    NoRow(&'static str),
    /// See [`UploadGone`].
    #[error(transparent)]
    Upload(#[from] UploadGone),
    /// An object that is needed is being deleted: roll back, wait, try again.
    #[error("{0} is being deleted at this moment")]
    Claimed(String),
}

/// Why an upload cannot be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadGone {
    /// There is none with that id, or it is somebody else's.
    #[error("there is no such upload")]
    Unknown,
    /// It failed or was given up.
    #[error("the upload has expired or was given up")]
    Failed,
}

impl StoreError {
    /// Whether the same transaction may succeed when it is tried again: dead-lock, serialization,
    /// lock not available, a connection that broke.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        use tokio_postgres::error::SqlState;
        match self {
            Self::Query { source, .. } => match source.code() {
                Some(code) => [
                    SqlState::T_R_DEADLOCK_DETECTED,
                    SqlState::T_R_SERIALIZATION_FAILURE,
                    SqlState::LOCK_NOT_AVAILABLE,
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                    SqlState::CANNOT_CONNECT_NOW,
                ]
                .contains(code),
                None => source.is_closed() || broke(source),
            },
            Self::Claimed(_) => true,
            Self::Connect(_) | Self::Corrupt { .. } | Self::NoRow(_) | Self::Upload(_) => false,
        }
    }
}

/// A pool of connections to one database.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
}

/// A connection taken from the pool; a transaction borrows it.
pub struct Connection(Object);

/// A transaction. Dropped without [`Tx::commit`], it is rolled back.
pub struct Tx<'a>(Transaction<'a>);

impl Store {
    /// A connection, waiting a bounded time for one.
    ///
    /// # Errors
    /// When the database cannot be reached or all connections stay busy.
    pub async fn connection(&self) -> Result<Connection, StoreError> {
        Ok(Connection(self.pool.get().await.map_err(StoreError::Connect)?))
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        let ping = connection.0.simple_query("SELECT 1").await;
        ping.map(drop).map_err(|source| StoreError::Query { what: "ping", source })
    }
}

impl Connection {
    /// Begins a transaction.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn begin(&mut self) -> Result<Tx<'_>, StoreError> {
        let begin = self.0.transaction().await;
        Ok(Tx(begin.map_err(|source| StoreError::Query { what: "begin", source })?))
    }

    /// Runs one statement outside of a transaction.
    pub(crate) async fn execute(
        &self,
        what: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StoreError> {
        execute(&self.0, what, sql, params).await
    }

    /// Runs one query outside of a transaction.
    pub(crate) async fn rows(
        &self,
        what: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        rows(&self.0, what, sql, params).await
    }
}

impl Tx<'_> {
    /// Makes it last.
    ///
    /// # Errors
    /// When the database could not; it is rolled back then, or its fate is unknown if the
    /// connection broke.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.0.commit().await.map_err(|source| StoreError::Query { what: "commit", source })
    }

    /// Enters the gate, shared: until this transaction ends nothing is condemned, claimed or
    /// expired. Whatever gives an object a new reason to live does so inside.
    ///
    /// # Errors
    /// When garbage collection keeps it closed for longer than the lock timeout.
    pub async fn enter_gate(&self) -> Result<(), StoreError> {
        let sql = "SELECT pg_advisory_xact_lock_shared($1)";
        self.execute("enter the gate", sql, &[&GATE]).await.map(drop)
    }

    /// Enters the gate alone: nothing gets a reason to live, and nothing is composed or found to be
    /// published, until this transaction ends. For short transactions only.
    ///
    /// # Errors
    /// When others stay inside for longer than the lock timeout.
    pub async fn enter_gate_alone(&self) -> Result<(), StoreError> {
        let sql = "SELECT pg_advisory_xact_lock($1)";
        self.execute("enter the gate alone", sql, &[&GATE]).await.map(drop)
    }

    /// Runs statements that have no parameters and answer nothing.
    pub(crate) async fn batch(&self, what: &'static str, sql: &str) -> Result<(), StoreError> {
        let batch = self.0.batch_execute(sql).await;
        batch.map_err(|source| StoreError::Query { what, source })
    }

    /// The same, unless the gate does not become free within `patience`.
    ///
    /// # Errors
    /// Then too: the transaction can do nothing more.
    pub async fn enter_gate_alone_within(&self, patience: Duration) -> Result<(), StoreError> {
        let sql = "SELECT set_config('lock_timeout', $1, true)";
        let set = async |time: Duration| {
            let millis = time.as_millis().to_string();
            self.rows("set the lock timeout", sql, &[&millis]).await.map(drop)
        };
        set(patience).await?;
        self.enter_gate_alone().await?;
        set(LOCK_TIMEOUT).await
    }

    pub(crate) async fn execute(
        &self,
        what: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StoreError> {
        execute(&self.0, what, sql, params).await
    }

    pub(crate) async fn rows(
        &self,
        what: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        rows(&self.0, what, sql, params).await
    }
}

/// The database's time: seconds since 1970.
///
/// # Errors
/// When the database cannot be asked.
pub async fn clock(connection: &Connection) -> Result<f64, StoreError> {
    let sql = "SELECT extract(epoch FROM clock_timestamp())::float8";
    let rows = connection.rows("ask for the time", sql, &[]).await?;
    rows.first().map(|row| row.get(0)).ok_or(StoreError::NoRow("ask for the time"))
}

async fn execute(
    client: &impl GenericClient,
    what: &'static str,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<u64, StoreError> {
    let query = async {
        let statement = client.prepare_cached(sql).await?;
        client.execute(&statement, params).await
    };
    query.await.map_err(|source| StoreError::Query { what, source })
}

async fn rows(
    client: &impl GenericClient,
    what: &'static str,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, StoreError> {
    let query = async {
        let statement = client.prepare_cached(sql).await?;
        client.query(&statement, params).await
    };
    query.await.map_err(|source| StoreError::Query { what, source })
}

/// Whether a client-side error is the connection's: a column of another type is not.
fn broke(error: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(error);
    cause.is_some_and(|cause| cause.is::<std::io::Error>())
}

/// Reads a text column as the type that it was written from.
fn read_text<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt { what, text: text.to_owned() })
}
