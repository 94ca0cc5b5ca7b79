//! Until when a request to S3 can take effect.

use std::time::Duration;

use niks3_core::limits::slow_body_time;

/// How long a presigned request of the server itself is good for, at most. Tries of one share it.
const OWN_URL_LIFETIME: Duration = Duration::from_secs(60);

/// How long a presigned DELETE is good for, at most. Shorter: what a collector that died was deleting
/// is out of reach for pushes until nobody can delete it any more, and they wait for two minutes.
const DELETE_URL_LIFETIME: Duration = Duration::from_secs(20);

/// What everything that must not overlap with a write or a delete waits for. Rests on S3 refusing
/// presigned requests that have expired, and on the slack.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long clients' URLs are good for.
    pub url_lifetime: Duration,
    /// How long after its URL has expired a request may still take effect: one that was just in time,
    /// and the difference between the database's clock and S3's.
    pub slack: Duration,
}

impl Times {
    /// How long a presigned request of the server itself is good for.
    #[must_use]
    pub fn own_url(&self) -> Duration {
        OWN_URL_LIFETIME.min(self.url_lifetime)
    }

    /// How long a presigned DELETE is good for.
    #[must_use]
    pub fn delete_url(&self) -> Duration {
        DELETE_URL_LIFETIME.min(self.url_lifetime)
    }

    /// How long after its URL was signed a PUT of the server itself may be called for: what is left of
    /// the URL's life is for its tries.
    #[must_use]
    pub fn latest_put(&self) -> Duration {
        self.own_url() / 2
    }

    /// How long after it was called for a try of such a PUT may begin. None may end when its URL has
    /// expired: that would be answered with 403, and taken for wrong credentials.
    #[must_use]
    pub fn put_patience(&self) -> Duration {
        self.own_url() / 6
    }

    /// How long after it was signed a URL that lives for `lifetime` may have a body of `bytes` written.
    #[must_use]
    pub fn writable(&self, lifetime: Duration, bytes: u64) -> Duration {
        lifetime + slow_body_time(bytes) + self.slack
    }

    /// How far the database's clock and S3's may be apart. The rest of the slack is for requests.
    #[must_use]
    pub fn max_skew(&self) -> Duration {
        self.slack / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::request::REQUEST_TIMEOUT;

    #[test]
    fn no_try_of_a_put_can_end_after_its_url() {
        let times =
            Times { url_lifetime: Duration::from_secs(1800), slack: Duration::from_secs(90) };
        assert!(times.latest_put() + times.put_patience() + REQUEST_TIMEOUT <= times.own_url());
        // A push that meets what a dead collector has claimed is tried for two minutes.
        assert!(times.delete_url() + times.slack < Duration::from_secs(120));
        assert_eq!(times.writable(Duration::from_secs(60), 128 * 1024).as_secs(), 151);
    }
}
