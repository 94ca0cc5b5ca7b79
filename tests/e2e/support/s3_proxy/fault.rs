//! What may happen to a request, and rules that say to which.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::Seen;

/// What happens to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is passed on.
    None,
    /// This long after it came, the other.
    Late(Duration, Box<Fault>),
    /// S3 is not asked: this status and S3 error code, and when to come back, in seconds.
    Answer { status: u16, code: &'static str, retry_after: Option<u32> },
    /// S3 is not asked: 200, with this body.
    Body(String),
    /// S3 does what it is asked, and says that it is so many seconds later, or earlier.
    ClockOff(i64),
    /// S3 is not asked: 200, with an error in the body.
    ErrorIn200 { code: &'static str },
    /// The connection is reset before S3 is asked.
    Reset,
    /// Half of the body reaches S3; then both connections are reset.
    ResetInBody,
    /// S3 does what it is asked, and its answer is lost with the connection.
    LoseAnswer,
    /// S3 does what it is asked, and answers this.
    AnswerAfter { status: u16, code: &'static str },
    /// The answer's body ends before its length: half-way, or at once if it is empty.
    TruncateAnswer,
    /// One bit of the body is another.
    FlipBit,
    /// The body passes this slowly, in bytes per second.
    Slow(u32),
}

impl Fault {
    /// So many milliseconds of latency, and no fault.
    pub fn latency(ms: u64) -> Self {
        Self::Late(Duration::from_millis(ms), Box::new(Self::None))
    }

    /// A status with S3's error code.
    pub fn answer(status: u16, code: &'static str) -> Self {
        Self::Answer { status, code, retry_after: None }
    }
}

/// `fault` for every request that matches.
pub fn each(
    matches: impl Fn(&Seen) -> bool + Send + Sync,
    fault: Fault,
) -> impl Fn(&Seen) -> Fault + Send + Sync {
    move |seen| if matches(seen) { fault.clone() } else { Fault::None }
}

/// `fault` for the first `n` requests that match.
pub fn first(
    n: usize,
    matches: impl Fn(&Seen) -> bool + Send + Sync,
    fault: Fault,
) -> impl Fn(&Seen) -> Fault + Send + Sync {
    let met = AtomicUsize::new(0);
    each(move |seen| matches(seen) && met.fetch_add(1, Ordering::Relaxed) < n, fault)
}

/// `fault` for the first try of everything that matches.
pub fn first_try(
    matches: impl Fn(&Seen) -> bool + Send + Sync,
    fault: Fault,
) -> impl Fn(&Seen) -> Fault + Send + Sync {
    each(move |seen| seen.earlier == 0 && matches(seen), fault)
}
