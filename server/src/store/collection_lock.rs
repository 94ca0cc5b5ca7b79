//! One collection, or one repair, at a time for each database, however many servers there are.

use super::{SessionLock, Store, StoreError};

/// The lock's key among advisory locks: "niks3gcb" in ASCII.
pub const COLLECTION_LOCK: i64 = 0x6e69_6b73_3367_6362;

/// The collection's lock. Nothing rests on whoever lost it noticing that: what they go on to decide is
/// decided in the gate, and what they delete is fenced.
pub struct CollectionLock(SessionLock);

impl CollectionLock {
    /// Takes the lock. `None`: somebody else has it.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn try_take(store: &Store) -> Result<Option<Self>, StoreError> {
        Ok(SessionLock::try_take(store, COLLECTION_LOCK).await?.map(Self))
    }

    /// Whether the lock is still ours.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.0.check().await
    }
}
