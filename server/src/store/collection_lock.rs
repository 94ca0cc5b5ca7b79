//! One collection, or one repair, at a time for each database, however many servers there are.

use deadpool_postgres::Object;

use super::{Store, StoreError};

/// The lock's key among advisory locks: "niks3gcb" in ASCII.
pub const COLLECTION_LOCK: i64 = 0x6e69_6b73_3367_6362;

/// The collection's lock: a session of its own, outside of the pool, that ends when this is dropped.
/// Whoever lost the session has lost the lock, and nothing rests on its noticing: what it goes on to
/// decide is decided in the gate, and what it deletes is fenced.
pub struct CollectionLock(deadpool_postgres::ClientWrapper);

impl CollectionLock {
    /// Takes the lock. `None`: somebody else has it.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn try_take(store: &Store) -> Result<Option<Self>, StoreError> {
        let session = Object::take(store.connection().await?.0);
        let query = |source| StoreError::Query { what: "take the collection's lock", source };
        let sql = "SELECT pg_try_advisory_lock($1)";
        let row = session.query_one(sql, &[&COLLECTION_LOCK]).await.map_err(query)?;
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
            .map_err(|source| StoreError::Query { what: "keep the collection's lock", source })
    }
}
