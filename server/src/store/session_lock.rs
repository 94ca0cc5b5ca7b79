//! A lock that one process has at a time, whichever server or command it is.

use deadpool_postgres::Object;

use super::{Store, StoreError};

/// A session's advisory lock: a session of its own, outside of the pool, that ends when this is dropped.
/// Whoever lost the session has lost the lock.
pub struct SessionLock(deadpool_postgres::ClientWrapper);

impl SessionLock {
    /// Takes the lock. `None`: somebody else has it.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(super) async fn try_take(store: &Store, key: i64) -> Result<Option<Self>, StoreError> {
        let session = Object::take(store.connection().await?.0);
        let query = |source| StoreError::Query { what: "take a session's lock", source };
        let sql = "SELECT pg_try_advisory_lock($1)";
        let row = session.query_one(sql, &[&key]).await.map_err(query)?;
        Ok(row.get::<_, bool>(0).then_some(Self(session)))
    }

    /// Whether the lock is still ours.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn check(&self) -> Result<(), StoreError> {
        let check = self.0.simple_query("SELECT 1").await;
        check
            .map(drop)
            .map_err(|source| StoreError::Query { what: "keep a session's lock", source })
    }
}
