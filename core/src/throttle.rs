//! How fast to ask S3 after it has said "slow down". Time and chance are arguments.
//!
//! As many requests at once as S3 bears: half as many after a refusal, one more after each round
//! that went well, as TCP does it (<https://www.rfc-editor.org/rfc/rfc5681>). And after a refusal a
//! pause in which nothing is asked at all.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

/// The pause after the first refusal; each further one in a row doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause that nobody asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Clone, Debug)]
pub struct Throttle {
    max: usize,
    /// Requests that may be under way: 1 to `max`.
    limit: usize,
    /// Requests that went well since the limit last changed.
    served: usize,
    /// Refusals that counted, without a success between them.
    refusals: u32,
    /// When the last refusal that counted came.
    cut_at: Option<Instant>,
    not_before: Option<Instant>,
}

impl Throttle {
    /// Starts with `max` requests at once, which is never exceeded.
    #[must_use]
    pub fn new(max: NonZeroUsize) -> Self {
        let max = max.get();
        Self { max, limit: max, served: 0, refusals: 0, cut_at: None, not_before: None }
    }

    /// How many requests may be under way: between 1 and the `max` of the beginning.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Nothing shall be asked before this. `None`: ask at once.
    #[must_use]
    pub fn not_before(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|until| *until > now)
    }

    /// A request that was sent at `sent` was refused at `now`: there are too many. `retry_after` is
    /// what S3 asked for, within bounds that the caller has set; `jitter`, from 0 to 1, spreads
    /// those who were refused together. Answers whether that lowered the limit.
    pub fn slow_down(
        &mut self,
        sent: Instant,
        now: Instant,
        retry_after: Option<Duration>,
        jitter: f64,
    ) -> bool {
        // What was under way when the limit was cut is refused for the same reason. If each of 30
        // counted, one burst would bring us from 100 at once to 1. A window of time would not do:
        // refusals may take seconds to come in.
        let counts = self.cut_at.is_none_or(|cut_at| sent > cut_at);
        if counts {
            self.limit = (self.limit / 2).max(1);
            self.served = 0;
            self.refusals = self.refusals.saturating_add(1);
            self.cut_at = Some(now);
        }
        let ours = if counts { pause(self.refusals, jitter) } else { Duration::ZERO };
        let until = now + ours.max(retry_after.unwrap_or_default());
        self.not_before = self.not_before.max(Some(until));
        counts
    }

    /// A request that was sent at `sent` was answered as any other day.
    pub fn success(&mut self, sent: Instant) {
        // Sent before the cut, it says nothing of how S3 fares since.
        if self.cut_at.is_some_and(|cut_at| sent <= cut_at) {
            return;
        }
        self.refusals = 0;
        if self.limit == self.max {
            return;
        }
        self.served += 1;
        if self.served >= self.limit {
            self.served = 0;
            self.limit += 1;
        }
    }
}

/// 250 ms after the first refusal in a row, 20 s at most, and between half of that and all of it.
fn pause(refusals: u32, jitter: f64) -> Duration {
    let doublings = refusals.saturating_sub(1).min(16);
    let whole = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn throttle(max: usize) -> Throttle {
        Throttle::new(NonZeroUsize::new(max).unwrap())
    }

    /// Refused a millisecond after it was sent, with all of the jitter.
    fn refused(throttle: &mut Throttle, sent: Instant) -> bool {
        throttle.slow_down(sent, sent + MS, None, 1.0)
    }

    #[test]
    fn it_starts_at_once_and_as_wide_as_it_may() {
        let throttle = throttle(100);
        assert_eq!(throttle.limit(), 100);
        assert_eq!(throttle.not_before(Instant::now()), None);
    }

    #[test]
    fn a_burst_of_refusals_counts_once_however_late_they_come() {
        let (mut throttle, sent) = (throttle(100), Instant::now());
        assert!(refused(&mut throttle, sent));
        for late in [2, 30, 1500, 20_000] {
            assert!(!throttle.slow_down(sent, sent + late * MS, None, 1.0));
        }
        assert_eq!(throttle.limit(), 50);
        assert!(refused(&mut throttle, sent + SECOND));
        assert_eq!(throttle.limit(), 25);
    }

    #[test]
    fn refusals_in_a_row_make_the_pause_longer_up_to_a_bound() {
        let (mut throttle, mut now) = (throttle(100), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..10 {
            now += 100 * SECOND;
            refused(&mut throttle, now);
            pauses.push((throttle.not_before(now).unwrap() - now - MS).as_millis());
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 20000, 20000, 20000]);
        assert_eq!(throttle.limit(), 1);
        throttle.success(now + SECOND);
        now += 100 * SECOND;
        refused(&mut throttle, now);
        assert_eq!(throttle.not_before(now), Some(now + 251 * MS));
    }

    #[test]
    fn jitter_spreads_those_who_were_refused_together_over_half_a_pause() {
        let now = Instant::now();
        for (jitter, pause) in [(0.0, 125), (0.5, 187), (1.0, 250), (7.0, 250), (-1.0, 125)] {
            let mut throttle = throttle(4);
            throttle.slow_down(now, now, None, jitter);
            let until = throttle.not_before(now).unwrap();
            assert_eq!((until - now).as_millis(), pause, "{jitter}");
            assert_eq!(throttle.not_before(until), None);
        }
    }

    #[test]
    fn s3_may_ask_for_a_longer_pause_and_not_for_a_shorter_one() {
        let (mut throttle, now) = (throttle(100), Instant::now());
        throttle.slow_down(now, now, Some(Duration::ZERO), 1.0);
        assert_eq!(throttle.not_before(now), Some(now + 250 * MS));
        // Also a refusal of the same burst may.
        throttle.slow_down(now, now + MS, Some(7 * SECOND), 1.0);
        assert_eq!(throttle.not_before(now), Some(now + MS + 7 * SECOND));
        throttle.slow_down(now, now + MS, Some(SECOND), 1.0);
        assert_eq!(throttle.not_before(now), Some(now + MS + 7 * SECOND));
    }

    #[test]
    fn each_round_that_goes_well_allows_one_more_until_all_are_allowed_again() {
        let (mut throttle, sent) = (throttle(8), Instant::now());
        refused(&mut throttle, sent);
        throttle.success(sent);
        let after = sent + SECOND;
        let mut limits = Vec::new();
        for _ in 0..4 + 5 + 6 + 7 {
            throttle.success(after);
            limits.push(throttle.limit());
        }
        assert_eq!(limits[..4], [4, 4, 4, 5]);
        assert_eq!(limits[8], 6);
        assert_eq!(throttle.limit(), 8);
        throttle.success(after);
        assert_eq!(throttle.limit(), 8);
    }

    #[test]
    fn whatever_happens_the_limit_stays_within_bounds_and_comes_back() {
        // xorshift64: any sequence will do, and a failure says which.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for max in [1, 2, 3, 24, 100] {
            let (mut throttle, mut now) = (throttle(max), Instant::now());
            for step in 0..5000 {
                let sent = now;
                now += MS * u32::try_from(random(400)).unwrap();
                if random(3) == 0 {
                    let asked = (random(2) == 0).then(|| MS * u32::try_from(random(9000)).unwrap());
                    throttle.slow_down(sent, now, asked, random(100) as f64 / 100.0);
                } else {
                    throttle.success(sent);
                }
                assert!((1..=max).contains(&throttle.limit()), "{max} {step}: {throttle:?}");
                let until = throttle.not_before(now).unwrap_or(now);
                assert!(until <= now + LONGEST_PAUSE, "{max} {step}: {throttle:?}");
            }
            now += SECOND;
            for _ in 0..max * max {
                throttle.success(now);
            }
            assert_eq!(throttle.limit(), max);
        }
    }
}
