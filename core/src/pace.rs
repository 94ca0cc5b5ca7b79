//! Lets requests to S3 pass, as many and as soon as [`Throttle`] allows. The one thing in this crate
//! that waits; it is there with the feature `tokio`.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::throttle::Throttle;

/// All requests to one S3 server pass here.
#[derive(Debug)]
pub struct Pace {
    state: Mutex<State>,
    /// Held by whoever is next; the others queue for it in the order in which they came.
    next: tokio::sync::Mutex<()>,
    /// Something has changed for whoever is next.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    throttle: Throttle,
    under_way: usize,
}

/// One request under way. Dropped without an outcome, it counts for nothing: its sender was
/// cancelled, or S3 gave no answer.
#[derive(Debug)]
#[must_use]
pub struct Permit<'a> {
    pace: &'a Pace,
    sent: Instant,
}

/// How S3 took a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, be it with "not found".
    Served,
    /// There are too many, and S3 wants a pause; within bounds that the caller has set.
    SlowDown {
        /// How long.
        retry_after: Option<Duration>,
    },
}

impl Pace {
    /// For `max` requests at once, as long as S3 bears them.
    #[must_use]
    pub fn new(max: NonZeroUsize) -> Self {
        let state = State { throttle: Throttle::new(max), under_way: 0 };
        Self { state: Mutex::new(state), next: tokio::sync::Mutex::new(()), changed: Notify::new() }
    }

    /// Waits for a turn, first come, first served. There is no bound on the wait: callers put a
    /// timeout around it. Who stops waiting gives up the place.
    pub async fn enter(&self) -> Permit<'_> {
        let _next = self.next.lock().await;
        loop {
            let now = Instant::now();
            let pause = {
                let mut state = self.state();
                let pause = state.throttle.not_before(now);
                if pause.is_none() && state.under_way < state.throttle.limit() {
                    state.under_way += 1;
                    return Permit { pace: self, sent: now };
                }
                pause
            };
            match pause {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                // A change between the look above and this wait is not missed: it is remembered.
                None => self.changed.notified().await,
            }
        }
    }

    /// How many requests may be under way.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.state().throttle.limit()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The request has been answered. Answers the new limit if that lowered it.
    pub fn done(self, outcome: Outcome) -> Option<usize> {
        let mut state = self.pace.state();
        let throttle = &mut state.throttle;
        match outcome {
            Outcome::Served => {
                throttle.success(self.sent);
                None
            }
            Outcome::SlowDown { retry_after } => {
                let cut =
                    throttle.slow_down(self.sent, Instant::now(), retry_after, fastrand::f64());
                cut.then(|| throttle.limit())
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.pace.state().under_way -= 1;
        self.pace.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, sync::Arc};

    use tokio::{sync::mpsc, time::timeout};

    use super::*;

    const SLOW_DOWN: Outcome = Outcome::SlowDown { retry_after: None };

    fn pace(max: usize) -> Arc<Pace> {
        Arc::new(Pace::new(NonZeroUsize::new(max).unwrap()))
    }

    /// Whether it is ready by now.
    async fn passes<T>(future: impl Future<Output = T>) -> Option<T> {
        timeout(Duration::ZERO, future).await.ok()
    }

    #[tokio::test]
    async fn no_more_are_under_way_than_allowed() {
        let pace = pace(2);
        let (first, _second) = (pace.enter().await, pace.enter().await);
        assert!(passes(pace.enter()).await.is_none());
        drop(first);
        assert!(passes(pace.enter()).await.is_some());
    }

    #[tokio::test]
    async fn after_a_refusal_all_wait_and_then_half_as_many_pass() {
        let pace = pace(4);
        let sent = [pace.enter().await, pace.enter().await, pace.enter().await];
        let limits = sent.map(|permit| permit.done(SLOW_DOWN));
        assert_eq!(limits, [Some(2), None, None]);
        let refused = Instant::now();
        assert!(passes(pace.enter()).await.is_none());
        let (_first, _second) = (pace.enter().await, pace.enter().await);
        assert!(refused.elapsed() >= Duration::from_millis(100));
        assert!(passes(pace.enter()).await.is_none());
    }

    #[tokio::test]
    async fn a_pause_that_s3_asks_for_is_kept_also_by_those_who_wait_already() {
        let pace = pace(1);
        let permit = pace.enter().await;
        let asked_for = Duration::from_millis(400);
        let waiting = tokio::spawn({
            let pace = Arc::clone(&pace);
            async move {
                let _permit = pace.enter().await;
                Instant::now()
            }
        });
        tokio::task::yield_now().await;
        let refused = Instant::now();
        permit.done(Outcome::SlowDown { retry_after: Some(asked_for) });
        assert!(waiting.await.unwrap() >= refused + asked_for);
    }

    #[tokio::test]
    async fn who_comes_first_is_served_first_and_who_leaves_holds_nobody_up() {
        let pace = pace(1);
        let permit = pace.enter().await;
        let (sender, mut served) = mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for n in 0..5 {
            let (pace, sender) = (Arc::clone(&pace), sender.clone());
            tasks.push(tokio::spawn(async move {
                let _permit = pace.enter().await;
                let _ = sender.send(n);
            }));
            tokio::task::yield_now().await;
        }
        drop(sender);
        // One that is next and one in the middle of the queue.
        tasks[0].abort();
        tasks[2].abort();
        tokio::task::yield_now().await;
        drop(permit);
        let mut order = Vec::new();
        while let Some(n) = served.recv().await {
            order.push(n);
        }
        assert_eq!(order, [1, 3, 4]);
    }

    #[tokio::test]
    async fn what_ends_without_an_outcome_counts_for_nothing() {
        let pace = pace(4);
        pace.enter().await.done(SLOW_DOWN);
        assert_eq!(pace.limit(), 2);
        for _ in 0..100 {
            drop(pace.enter().await);
        }
        assert_eq!(pace.limit(), 2);
        for _ in 0..2 + 3 {
            pace.enter().await.done(Outcome::Served);
        }
        assert_eq!(pace.limit(), 4);
    }
}
