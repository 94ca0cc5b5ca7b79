//! What is worth another try: one rule for the client's calls of the server, and for what both of
//! them ask of S3.

use std::time::{Duration, SystemTime};

/// The longest pause that an answer may ask for. A store that wants us gone for an hour is asked
/// again earlier, a few times, and then the person hears of it.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What a refusal says about the same request a moment later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would be refused again.
    Final,
    /// It may succeed.
    Again,
    /// It may succeed, and there are too many requests: all of them should come more slowly.
    SlowDown,
}

impl Verdict {
    /// Of an answer of 300 and above, with S3's error code where it named one.
    ///
    /// The code wins over the status: S3 says 400 to a body that was damaged on the way and to one
    /// that came too slowly, and 200 when completing a multipart upload fails late.
    /// - Amazon: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
    /// - R2: <https://developers.cloudflare.com/r2/api/error-codes/>
    /// - B2: <https://www.backblaze.com/docs/cloud-storage-rate-limits>
    #[must_use]
    pub fn of(status: u16, code: Option<&str>) -> Self {
        match code {
            Some(
                "SlowDown"
                | "SlowDownRead"
                | "SlowDownWrite"
                | "ServiceUnavailable"
                | "Throttling"
                | "ThrottlingException"
                | "ThrottledException"
                | "RequestThrottled"
                | "RequestThrottledException"
                | "RequestLimitExceeded"
                | "BandwidthLimitExceeded"
                | "TooManyRequests"
                | "TooManyRequestsException"
                | "TooMuchConcurrency"
                | "Busy",
            ) => Self::SlowDown,
            Some("InternalError" | "RequestTimeout" | "RequestTimeoutException") => Self::Again,
            // Another request was changing the same key.
            Some("OperationAborted" | "ConditionalRequestConflict") => Self::Again,
            // Cut short or damaged on the way. Garage says `InvalidDigest` to an MD5 that does not
            // match; to others that is a malformed one, which we do not send.
            Some(
                "BadDigest"
                | "InvalidDigest"
                | "IncompleteBody"
                | "ClientDisconnect"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch",
            ) => Self::Again,
            _ => Self::of_status(status),
        }
    }

    fn of_status(status: u16) -> Self {
        match status {
            // 529 is not registered; some that are overloaded answer it.
            429 | 503 | 529 => Self::SlowDown,
            408 | 425 => Self::Again,
            // Not implemented, another version of HTTP, the disk is full, log in to the network.
            501 | 505 | 507 | 511 => Self::Final,
            // Also what proxies say of a server that does not answer them: 502, 504, 520 to 530.
            500..=599 => Self::Again,
            _ => Self::Final,
        }
    }
}

/// What a `Retry-After` asks for at `now`, in seconds or as a date, [`MAX_RETRY_AFTER`] at most.
/// `None`: it says neither, or a time that has passed.
#[must_use]
pub fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        // A clock that is wrong makes the pause wrong, within the bound.
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?,
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::{Verdict::*, *};

    #[test]
    fn what_passes_is_tried_again_and_what_is_wrong_is_not() {
        for (status, code, verdict) in [
            // Any server.
            (301, None, Final),
            (400, None, Final),
            (401, None, Final),
            (403, None, Final),
            (404, None, Final),
            (408, None, Again),
            (409, None, Final),
            (410, None, Final),
            (412, None, Final),
            (413, None, Final),
            (424, None, Final),
            (425, None, Again),
            (429, None, SlowDown),
            (500, None, Again),
            (501, None, Final),
            (502, None, Again),
            (503, None, SlowDown),
            (504, None, Again),
            (505, None, Final),
            (511, None, Final),
            (522, None, Again),
            (529, None, SlowDown),
            // Amazon.
            (503, Some("SlowDown"), SlowDown),
            (503, Some("ServiceUnavailable"), SlowDown),
            (503, Some("Busy"), SlowDown),
            (400, Some("ThrottlingException"), SlowDown),
            (400, Some("RequestTimeout"), Again),
            (400, Some("BadDigest"), Again),
            (400, Some("IncompleteBody"), Again),
            (400, Some("XAmzContentSHA256Mismatch"), Again),
            (400, Some("InvalidArgument"), Final),
            (400, Some("EntityTooLarge"), Final),
            (400, Some("ExpiredToken"), Final),
            (403, Some("AccessDenied"), Final),
            (403, Some("SignatureDoesNotMatch"), Final),
            // The same URL does not get any younger.
            (403, Some("RequestTimeTooSkewed"), Final),
            (404, Some("NoSuchBucket"), Final),
            (409, Some("OperationAborted"), Again),
            (412, Some("PreconditionFailed"), Final),
            (500, Some("InternalError"), Again),
            (501, Some("NotImplemented"), Final),
            (200, Some("InternalError"), Again),
            // Cloudflare R2.
            (429, Some("TooManyRequests"), SlowDown),
            (400, Some("ClientDisconnect"), Again),
            (400, Some("ExpiredRequest"), Final),
            (403, Some("NotEntitled"), Final),
            // MinIO and Garage.
            (503, Some("SlowDownWrite"), SlowDown),
            (503, Some("XMinioServerNotInitialized"), SlowDown),
            (507, Some("XMinioStorageFull"), Final),
            (400, Some("XAmzContentChecksumMismatch"), Again),
            (400, Some("InvalidDigest"), Again),
        ] {
            assert_eq!(Verdict::of(status, code), verdict, "{status} {code:?}");
        }
    }

    #[test]
    fn a_pause_may_be_asked_for_in_seconds_or_as_a_date() {
        // 2015-10-21 07:28:00 UTC
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480);
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(retry_after(" 5 ", then), seconds(5));
        assert_eq!(retry_after("0", then), seconds(0));
        assert_eq!(retry_after(date, then - Duration::from_secs(7)), seconds(7));
        assert_eq!(retry_after(date, then + Duration::from_secs(1)), None);
        for nonsense in ["", "soon", "-1", "1.5", "99999999999999999999", "2015-10-21"] {
            assert_eq!(retry_after(nonsense, then), None, "{nonsense}");
        }
    }

    #[test]
    fn nobody_may_ask_for_an_endless_pause() {
        let now = SystemTime::UNIX_EPOCH;
        for long in ["31", "86400", "18446744073709551615", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(retry_after(long, now), Some(MAX_RETRY_AFTER), "{long}");
        }
    }
}
