//! The difference between the database's clock and S3's.
//!
//! A URL ends by S3's clock, and that it has ended is read off the database's. While they differ by no
//! more than the slack allows for, what has ended by the one can do nothing by the other.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::CollectError;
use crate::{store, upload::Uploads};

/// How long a measurement is good for, as long as the database's clock keeps its pace.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// S3 says what time it is in whole seconds.
const RESOLUTION: f64 = 1.0;

/// The last measurement.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    database: f64,
    measured: Instant,
}

impl Clock {
    /// Measures.
    ///
    /// # Errors
    /// When the clocks are too far apart, or cannot be read.
    pub(super) async fn measure(cx: &Uploads) -> Result<Self, CollectError> {
        let connection = cx.store.connection().await?;
        let before = store::clock(&connection).await?;
        let measured = Instant::now();
        let date = cx.bucket.date().await?.ok_or(CollectError::NoDate)?;
        let after = store::clock(&connection).await?;
        let date = seconds(date);
        // S3's clock was somewhere in this second while the database's went from `before` to `after`.
        let apart = (date - after).max(before - (date + RESOLUTION)).max(0.0);
        let limit = cx.bucket.times.max_skew();
        if apart > limit.as_secs_f64() {
            return Err(CollectError::Clocks { apart: rounded(apart), limit });
        }
        Ok(Self { database: before, measured })
    }

    /// Whether another measurement is due.
    pub(super) fn is_old(&self) -> bool {
        self.measured.elapsed() > GOOD_FOR
    }

    /// Whether the database's clock, which says `database` now, was not set since the measurement.
    ///
    /// # Errors
    /// When it was.
    pub(super) fn check(&self, database: f64, limit: Duration) -> Result<(), CollectError> {
        let passed = self.measured.elapsed().as_secs_f64();
        let apart = (database - self.database - passed).abs();
        if apart > limit.as_secs_f64() {
            return Err(CollectError::Clocks { apart: rounded(apart), limit });
        }
        Ok(())
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn rounded(seconds: f64) -> Duration {
    Duration::from_millis((seconds * 1000.0) as u64)
}
