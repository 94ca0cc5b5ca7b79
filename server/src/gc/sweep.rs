//! Deleting: claim, delete from the bucket, delete the rows, one level of references after the other.
//!
//! Nothing is claimed that any row refers to. So what refers to an object has been confirmed deleted,
//! in an earlier request and transaction, before the object itself is touched.

use std::{sync::Arc, time::Duration};

use niks3_core::causes::causes;
use tokio::{task::JoinSet, time::Instant};
use tracing::warn;

use super::{
    CollectError,
    clock::Clock,
    run::Run,
    turn::{Decision, Turns},
};
use crate::{
    s3::{Deletion, Fence, MAX_BATCH, Times},
    store::{self, Claim, Forgotten, TOP, Tx},
    upload::{self, Uploads},
};

/// Claims whose requests are under way at once.
const CLAIMS_AT_ONCE: usize = 4;

/// Condemned objects that are looked at in one go, whether they can be claimed or not.
const LOOK: usize = 10_000;

/// Objects that were just freed of their last referrer, to be claimed next. When there are more, the
/// rest is found by another pass.
const MAX_FREED: usize = 200_000;

/// What became of one claim.
pub(super) struct Swept {
    pub(super) forgotten: Forgotten,
    pub(super) failed: u64,
}

/// Deletes what has been garbage for long enough. Ends when a pass over all of it finds nothing to
/// claim; what S3 did not delete is left to the next run.
pub(super) async fn sweep(run: &mut Run<'_>) -> Result<(), CollectError> {
    let cx = run.cx;
    upload::lapse_claims(cx).await?;
    let mut clock = Clock::measure(cx).await?;
    let mut turns = Turns::new(&cx.store);
    let mut queue = Queue::new(run.grace());
    // Tasks, since we wait for much else meanwhile: what is under way has turns at S3 that others may
    // wait for, such as our look at its clock.
    let mut under_way = JoinSet::new();
    loop {
        run.keep().await?;
        while under_way.len() < CLAIMS_AT_ONCE {
            let ids = queue.next(cx, turns.batch().min(MAX_BATCH)).await?;
            if ids.is_empty() {
                break;
            }
            if clock.is_old() {
                clock = Clock::measure(cx).await?;
            }
            let (grace, times) = (run.grace(), cx.bucket.times);
            let claiming = Claiming { ids: &ids, clock: &clock, grace, times };
            let (claim, until) = turns.take(&claiming).await?;
            run.progress.objects_spared += claim.spared;
            if !claim.is_empty() {
                let cx = Arc::clone(cx);
                under_way.spawn(async move { delete(&cx, claim, until).await });
            }
        }
        // Nothing under way, and nothing was found to begin with.
        let Some(swept) = under_way.join_next().await else { return Ok(()) };
        let Swept { forgotten, failed } = swept.expect("a delete does not panic")?;
        run.progress.objects_deleted_after_grace_period += forgotten.objects;
        run.progress.bytes_freed += forgotten.bytes;
        run.progress.objects_failed_to_delete += failed;
        queue.freed(forgotten.freed);
    }
}

/// Deletes those of these objects that can go now, whatever the grace period.
pub(super) async fn delete_now(
    cx: &Uploads,
    turns: &mut Turns<'_>,
    clock: &Clock,
    ids: &[i64],
) -> Result<Swept, CollectError> {
    let mut all = Swept { forgotten: Forgotten::default(), failed: 0 };
    for ids in ids.chunks(MAX_BATCH) {
        let (grace, times) = (Duration::ZERO, cx.bucket.times);
        let (claim, until) = turns.take(&Claiming { ids, clock, grace, times }).await?;
        if !claim.is_empty() {
            let swept = delete(cx, claim, until).await?;
            all.forgotten.objects += swept.forgotten.objects;
            all.forgotten.bytes += swept.forgotten.bytes;
            all.forgotten.freed.extend(swept.forgotten.freed);
            all.failed += swept.failed;
        }
    }
    Ok(all)
}

/// What to try to claim next.
struct Queue {
    grace: Duration,
    /// Found by a pass over all that is condemned.
    found: Vec<i64>,
    /// Below which object that pass goes on; `None`: it has come to its end.
    below: Option<i64>,
    /// What has just been freed.
    freed: Vec<i64>,
    /// Whether something that was freed was dropped here, and is left to another pass.
    again: bool,
}

impl Queue {
    fn new(grace: Duration) -> Self {
        Self { grace, found: Vec::new(), below: Some(TOP), freed: Vec::new(), again: false }
    }

    fn freed(&mut self, ids: Vec<i64>) {
        let room = MAX_FREED.saturating_sub(self.freed.len());
        self.again |= ids.len() > room;
        self.freed.extend(ids.into_iter().take(room));
    }

    /// Up to `limit` objects; none: there are no more.
    ///
    /// As long as the pass goes on, a claim is as large as may be. Following what each claim frees
    /// instead, a closure alone would be swept after the other, and a level of one closure may be a
    /// single path: a turn, a request and two transactions for each.
    async fn next(&mut self, cx: &Uploads, limit: usize) -> Result<Vec<i64>, CollectError> {
        while self.freed.len() < limit && self.found.len() < limit {
            let Some(below) = self.below else { break };
            let connection = cx.store.connection().await?;
            match store::next_condemned(&connection, below, LOOK, self.grace).await? {
                Some((last, found)) => {
                    self.found.extend(found);
                    self.below = Some(last);
                }
                // Once more, if something was dropped.
                None => self.below = std::mem::take(&mut self.again).then_some(TOP),
            }
        }
        // What was freed first: so this stays short.
        let from = match self.freed.len() >= limit || self.found.is_empty() {
            true => &mut self.freed,
            false => &mut self.found,
        };
        let mut ids = from.split_off(from.len().saturating_sub(limit));
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

/// One turn's claim. Answers it and when its last request may begin.
struct Claiming<'a> {
    ids: &'a [i64],
    clock: &'a Clock,
    grace: Duration,
    times: Times,
}

impl Decision for Claiming<'_> {
    type Answer = (Claim, Instant);

    async fn decide(&self, tx: &Tx<'_>, _: usize) -> Result<Self::Answer, CollectError> {
        let lifetime = self.times.delete_url();
        // From before the claim on, so that none begins later than its URL ends.
        let until = Instant::now() + lifetime;
        let fence = self.times.writable(lifetime, 0);
        let claim = store::claim(tx, self.ids, self.grace, fence).await?;
        if claim.token != 0 {
            self.clock.check(claim.at, self.times.max_skew())?;
        }
        if !claim.needed.is_empty() {
            warn!(objects.needed = claim.needed.len(), "condemned objects are needed: revived");
            store::revive(tx, &claim.needed).await?;
        }
        Ok((claim, until))
    }
}

/// Deletes what was claimed, first in the bucket, then its rows: only of what no request under way names.
async fn delete(cx: &Uploads, claim: Claim, until: Instant) -> Result<Swept, CollectError> {
    let fence = Fence { signed_at: claim.at, until };
    let keys: Vec<_> = claim.objects.iter().map(|(_, key)| key.clone()).collect();
    let outcomes = cx.bucket.delete(&keys, fence).await;
    let (mut gone, mut failed) = (claim.external, 0);
    for ((id, key), outcome) in claim.objects.iter().zip(outcomes) {
        match outcome {
            Deletion::Gone => gone.push(*id),
            Deletion::Failed(error) | Deletion::Unanswered(error) => {
                if failed == 0 {
                    warn!(
                        cause = causes(&error).join(": "),
                        "{key} was not deleted, nor maybe others"
                    );
                }
                failed += 1;
            }
        }
    }
    let forgotten = upload::retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        let forgotten = store::delete_claimed(&tx, claim.token, &gone).await?;
        tx.commit().await?;
        Ok(forgotten)
    })
    .await?;
    Ok(Swept { forgotten, failed })
}
