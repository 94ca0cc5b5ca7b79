//! Bytes in memory: whatever holds bytes of a NAR has reserved them here first.

use std::{io, sync::Arc};

use super::PushOptions;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// What is counted in: a semaphore has fewer permits than we may have bytes.
const UNIT: u64 = 1024;

/// The two budgets of a push, taken in this order: who has bytes of a body waits for the network alone,
/// so they are always given back, and then so is what compressors have. With one budget for both, a
/// compressor could wait for bytes that only it would free.
#[derive(Clone)]
pub(super) struct Memory {
    /// What zstd takes.
    pub(super) compressors: Budget,
    /// Compressed NARs and parts on their way.
    pub(super) bodies: Budget,
}

impl Memory {
    pub(super) fn new(options: &PushOptions) -> Self {
        let compressors = options.compressor_share();
        let bodies = options.buffered.saturating_sub(compressors);
        Self { compressors: Budget::new(compressors), bodies: Budget::new(bodies) }
    }

    /// Whoever waits, or comes later, gets nothing any more.
    pub(super) fn close(&self) {
        self.compressors.units.close();
        self.bodies.units.close();
    }
}

/// A bound on bytes in memory, first come, first served.
#[derive(Clone)]
pub(super) struct Budget {
    units: Arc<Semaphore>,
    total: u32,
}

/// Bytes that may be used until this is dropped.
#[derive(Debug)]
pub(super) struct Reserved(OwnedSemaphorePermit);

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits for `bytes`, or for all there are if that is less: what needs more than everything has
    /// everything. `None`: the budget is closed.
    pub(super) async fn reserve(&self, bytes: u64) -> Option<Reserved> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.total);
        Arc::clone(&self.units).acquire_many_owned(units).await.ok().map(Reserved)
    }

    /// The same from a thread that may block.
    pub(super) fn reserve_blocking(&self, runtime: &Handle, bytes: u64) -> io::Result<Reserved> {
        runtime.block_on(self.reserve(bytes)).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// All that there is.
    pub(super) fn total(&self) -> u64 {
        u64::from(self.total) * UNIT
    }
}

impl Reserved {
    /// Gives back what is more than `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        let units = usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX);
        drop(self.0.split(self.0.num_permits().saturating_sub(units)));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use crate::pack::compressor_bytes;

    use super::*;

    #[tokio::test]
    async fn bodies_flow_while_a_compressor_waits_for_memory() {
        let options = PushOptions {
            level: 3,
            buffered: 256 << 20,
            multipart_threshold: 0,
            dry_run: false,
            verify_s3: false,
            index_debug_info: false,
        };
        // As on a machine with 12 cores: three NARs, four threads each.
        let (memory, four) = (Memory::new(&options), compressor_bytes(3, 4));
        let first = memory.compressors.reserve(four).await;
        let second = tokio::spawn({
            let compressors = memory.compressors.clone();
            async move { compressors.reserve(four).await.is_some() }
        });
        tokio::task::yield_now().await;
        for _ in 0..100 {
            assert!(memory.bodies.reserve(8 << 20).now_or_never().flatten().is_some());
        }
        drop(first);
        assert!(second.await.unwrap());
    }

    #[tokio::test]
    async fn what_is_reserved_is_nobody_elses_until_it_is_given_back() {
        let budget = Budget::new(10 * UNIT);
        let mut first = budget.reserve(8 * UNIT - 1).await.unwrap();
        assert!(budget.reserve(3 * UNIT).now_or_never().is_none());
        first.shrink_to(7 * UNIT);
        let second = budget.reserve(3 * UNIT).now_or_never().unwrap().unwrap();
        drop((first, second));
        // More than there is, is all there is.
        let all = budget.reserve(1000 * UNIT).now_or_never().unwrap().unwrap();
        assert!(budget.reserve(1).now_or_never().is_none());
        drop(all);
        let memory = Memory { compressors: Budget::new(UNIT), bodies: budget };
        memory.close();
        assert!(memory.bodies.reserve(1).await.is_none());
        assert!(memory.compressors.reserve(1).await.is_none());
    }
}
