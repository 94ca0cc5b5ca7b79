//! One lock for each key, in a table of fixed size.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use tokio::sync::RwLock;

/// Keys that share a lock wait for each other now and then; with so many it is rare.
const LOCKS: usize = 512;

/// Locks by key. Some keys share one, so nobody may hold two locks of one table.
pub(super) struct Locks {
    locks: Box<[Arc<RwLock<()>>]>,
    hasher: RandomState,
}

impl Locks {
    pub(super) fn new() -> Self {
        Self { locks: (0..LOCKS).map(|_| Arc::default()).collect(), hasher: RandomState::new() }
    }

    pub(super) fn of(&self, key: impl std::hash::Hash) -> Arc<RwLock<()>> {
        let hash = self.hasher.hash_one(key);
        let index = hash % self.locks.len() as u64;
        // Less than the length, which is a usize.
        Arc::clone(&self.locks[usize::try_from(index).unwrap_or(0)])
    }
}
