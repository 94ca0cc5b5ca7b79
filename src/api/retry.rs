//! Which answers are worth another try, and after how long.

use std::time::{Duration, Instant, SystemTime};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use niks3_core::{
    causes::causes,
    verdict::{self, Verdict},
};
use reqwest::{
    Response,
    header::{HeaderMap, RETRY_AFTER},
};
use tracing::{debug, warn};

use super::ApiError;

/// How long a call is repeated after it first failed: longer than a server takes to restart, or
/// several of them to be replaced one after the other.
const PATIENCE: Duration = Duration::from_secs(120);

/// The same before the server has carried out any call: whoever named it is waiting.
const FIRST_PATIENCE: Duration = Duration::from_secs(20);

/// When the person is told why nothing happens.
const TOLD_AFTER: Duration = Duration::from_secs(5);

/// The longest pause that nobody asked for, before jitter, which may double it.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Growing pauses, with jitter so that many clients do not come back at once.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(300))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
}

/// What we know of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// It has answered, whatever it was.
    pub(super) answered: bool,
    /// It has carried out a call.
    pub(super) served: bool,
}

/// The tries of one call.
pub(super) struct Tries {
    pauses: ExponentialBackoff,
    /// When the first of them failed.
    failed_at: Option<Instant>,
    told: bool,
}

impl Tries {
    /// For one call.
    pub(super) fn new() -> Self {
        Self { pauses: pauses().without_max_times().build(), failed_at: None, told: false }
    }

    /// Whether one of them failed in a way that left open whether it was carried out.
    pub(super) fn have_failed(&self) -> bool {
        self.failed_at.is_some()
    }

    /// The pause before the next try, after one that failed at `now`: growing, with jitter, and no
    /// less than the server asks for. `None`: another try is not worth it, or has no time left.
    pub(super) fn pause_after(
        &mut self,
        error: &ApiError,
        known: Known,
        now: Instant,
    ) -> Option<Duration> {
        if !is_transient(error, known) {
            return None;
        }
        // From the first failure on, not from the call: a plan may well take minutes.
        let failed_at = *self.failed_at.get_or_insert(now);
        let patience = if known.served { PATIENCE } else { FIRST_PATIENCE };
        let pause = self.pauses.next()?.max(error.retry_after().unwrap_or_default());
        if now + pause > failed_at + patience {
            return None;
        }
        if now >= failed_at + TOLD_AFTER && !self.told {
            self.told = true;
            warn!("{}; trying again for up to {} s", causes(error).join(": "), patience.as_secs());
        }
        debug!(error = error as &dyn std::error::Error, ?pause, "a call is tried again");
        Some(pause)
    }
}

/// Whether the same call may succeed a moment later.
fn is_transient(error: &ApiError, known: Known) -> bool {
    match error {
        // A name that does not resolve, a port where nobody listens: whoever typed the URL wants to
        // know now. A server that answered before is being restarted.
        ApiError::Unreachable { source, .. } => {
            !source.is_builder() && (known.answered || !source.is_connect())
        }
        ApiError::Refused { status, .. } => Verdict::of(status.as_u16(), None) != Verdict::Final,
        ApiError::CutOff { .. } => true,
        ApiError::Setup(_)
        | ApiError::Token { .. }
        | ApiError::NotNiks3 { .. }
        | ApiError::Moved { .. }
        | ApiError::ProxyLimit { .. } => false,
    }
}

/// What the answer's `Retry-After` asks for.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    verdict::retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, SystemTime::now())
}

/// A whole body, unless it breaks off or is larger than `limit`.
pub async fn read_whole(mut response: Response, limit: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > limit {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// The beginning of a body, as far as it comes.
pub async fn read_some(mut response: Response, limit: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(limit - body.len())]);
        if body.len() == limit {
            break;
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn refused(status: u16, retry_after: Option<u64>) -> ApiError {
        ApiError::Refused {
            base: "http://cache".parse().unwrap(),
            status: StatusCode::from_u16(status).unwrap(),
            message: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    const SECOND: Duration = Duration::from_secs(1);
    const NEW: Known = Known { answered: false, served: false };
    const SERVED: Known = Known { answered: true, served: true };

    /// How long a call is repeated that fails after `took` each time.
    fn patience(error: &ApiError, known: Known, took: Duration) -> Duration {
        let (mut tries, mut now) = (Tries::new(), Instant::now());
        let first = now;
        while let Some(pause) = tries.pause_after(error, known, now) {
            now += pause + took;
        }
        now - first
    }

    #[test]
    fn what_passes_is_tried_again_and_what_is_wrong_is_not() {
        for (status, again) in [(400, false), (401, false), (429, true), (500, true), (503, true)] {
            let pause = Tries::new().pause_after(&refused(status, None), NEW, Instant::now());
            assert_eq!(pause.is_some(), again, "{status}");
        }
    }

    #[test]
    fn a_server_that_has_served_us_may_restart_and_a_new_one_is_not_waited_for() {
        let error = refused(502, None);
        let (long, short) = (patience(&error, SERVED, SECOND), patience(&error, NEW, SECOND));
        assert!(long > 90 * SECOND && long <= PATIENCE + SECOND, "{long:?}");
        assert!(short > 2 * SECOND && short <= FIRST_PATIENCE + SECOND, "{short:?}");
        // A call that takes long is not given up for that: its first failure starts the time.
        assert!(patience(&error, SERVED, 100 * SECOND) >= 100 * SECOND);
    }

    #[test]
    fn a_server_may_ask_for_a_longer_pause_within_the_patience() {
        let pause =
            |error: &ApiError, known| Tries::new().pause_after(error, known, Instant::now());
        assert_eq!(pause(&refused(503, Some(5)), NEW), Some(5 * SECOND));
        assert!(pause(&refused(503, Some(0)), NEW).unwrap() >= Duration::from_millis(300));
        assert_eq!(pause(&refused(503, Some(30)), SERVED), Some(30 * SECOND));
        assert_eq!(pause(&refused(503, Some(30)), NEW), None);
    }
}
