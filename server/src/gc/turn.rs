//! A collector's turns at the gate.

use std::time::{Duration, Instant};

use tracing::debug;

use super::CollectError;
use crate::store::{Store, Tx};

/// How long a turn is waited for. Whoever waits for the gate alone holds up all pushes that come
/// after, so not for long.
const PATIENCE: Duration = Duration::from_millis(300);

/// After so many turns in a row that did not come, the next is waited for as long as it takes.
const IMPATIENT_AFTER: u32 = 10;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Attempts at one batch that meets what passes, such as a dead-lock or a database that restarts.
const ATTEMPTS: u32 = 30;

/// Objects that one turn decides about, at most and at least.
pub(super) const MAX_BATCH: usize = 1000;
const MIN_BATCH: usize = 20;

/// A turn shorter than this makes the next batch larger, one longer than that smaller.
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(300);

/// Part of a turn's time that pushes are then left alone for. They queue at the gate in between, and go
/// through before the next turn whatever the pause.
const PAUSE_SHARE: u32 = 8;

/// What is decided in one turn.
pub(super) trait Decision: Sync {
    /// What comes out.
    type Answer: Send;

    /// Decides about `limit` objects at most, in a transaction that has the gate alone.
    fn decide(
        &self,
        tx: &Tx<'_>,
        limit: usize,
    ) -> impl Future<Output = Result<Self::Answer, CollectError>> + Send;
}

/// Takes turns at the gate, each with a batch of a size that keeps it short.
pub(super) struct Turns<'a> {
    store: &'a Store,
    batch: usize,
}

impl<'a> Turns<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, batch: MAX_BATCH }
    }

    /// How many objects the next turn should decide about.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// One transaction with the gate closed, tried again while it meets what passes.
    pub(super) async fn take<D: Decision>(
        &mut self,
        decision: &D,
    ) -> Result<D::Answer, CollectError> {
        let mut missed = 0;
        for attempt in 1.. {
            let patience = (missed < IMPATIENT_AFTER).then_some(PATIENCE);
            match self.once(patience, decision).await {
                Ok((decided, took)) => {
                    let turn_ms = took.as_secs_f64() * 1000.0;
                    debug!(gc.turn_ms = turn_ms, gc.batch = self.batch, "took a turn at the gate");
                    self.batch = match took {
                        took if took > LONG => (self.batch / 2).max(MIN_BATCH),
                        took if took < SHORT => (self.batch * 2).min(MAX_BATCH),
                        _ => self.batch,
                    };
                    tokio::time::sleep(took / PAUSE_SHARE).await;
                    return Ok(decided);
                }
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    missed += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn once<D: Decision>(
        &self,
        patience: Option<Duration>,
        decision: &D,
    ) -> Result<(D::Answer, Duration), CollectError> {
        let mut connection = self.store.connection().await?;
        let tx = connection.begin().await?;
        match patience {
            Some(patience) => tx.enter_gate_alone_within(patience).await?,
            None => tx.enter_gate_alone().await?,
        }
        let entered = Instant::now();
        let decided = decision.decide(&tx, self.batch).await?;
        tx.commit().await?;
        Ok((decided, entered.elapsed()))
    }
}
