//! Which answers are worth another try, and after how long.

use std::time::{Duration, SystemTime};

use backon::ExponentialBuilder;
use niks3_core::verdict::{self, MAX_RETRY_AFTER, Verdict};
use reqwest::{
    Response,
    header::{HeaderMap, RETRY_AFTER},
};

use super::ApiError;

/// Tries of one call.
const TRIES: usize = 5;

/// The longest pause, also where the server asks for one.
const MAX_PAUSE: Duration = MAX_RETRY_AFTER;

/// Growing pauses, with jitter so that many clients do not come back at once.
#[must_use]
pub fn policy() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(300))
        .with_max_delay(MAX_PAUSE)
        .with_jitter()
        .with_max_times(TRIES - 1)
}

/// Whether the same call may succeed a moment later. `reached`: the server has answered before.
#[must_use]
pub fn is_transient(error: &ApiError, reached: bool) -> bool {
    match error {
        // A name that does not resolve, a port where nobody listens: whoever typed the URL wants to
        // know now. A server that answered before is being restarted.
        ApiError::Unreachable { source, .. } => {
            !source.is_builder() && (reached || !source.is_connect())
        }
        ApiError::Refused { status, .. } => Verdict::of(status.as_u16(), None) != Verdict::Final,
        ApiError::CutOff { .. } => true,
        ApiError::Setup(_)
        | ApiError::NotNiks3 { .. }
        | ApiError::Moved { .. }
        | ApiError::ProxyLimit { .. } => false,
    }
}

/// The pause before the next try: what the server asked for, within bounds, or our own.
#[must_use]
pub fn pause_after(error: &ApiError, ours: Option<Duration>) -> Option<Duration> {
    match (error, ours) {
        (ApiError::Refused { retry_after: Some(theirs), .. }, Some(ours)) => {
            Some((*theirs).clamp(ours.min(MAX_PAUSE), MAX_PAUSE))
        }
        (_, ours) => ours,
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

    #[test]
    fn what_passes_is_tried_again_and_what_is_wrong_is_not() {
        for (status, again) in [
            (400, false),
            (401, false),
            (403, false),
            (404, false),
            (408, true),
            (409, false),
            (410, false),
            (413, false),
            (429, true),
            (500, true),
            (501, false),
            (502, true),
            (503, true),
            (504, true),
        ] {
            assert_eq!(is_transient(&refused(status, None), false), again, "{status}");
        }
    }

    #[test]
    fn a_server_may_ask_for_a_longer_pause_within_bounds() {
        let ours = Some(Duration::from_secs(1));
        assert_eq!(pause_after(&refused(503, Some(5)), ours), Some(Duration::from_secs(5)));
        assert_eq!(pause_after(&refused(503, Some(0)), ours), ours);
        assert_eq!(pause_after(&refused(503, Some(9999)), ours), Some(MAX_PAUSE));
        assert_eq!(pause_after(&refused(503, None), ours), ours);
        assert_eq!(pause_after(&refused(503, Some(5)), None), None);
    }
}
