//! Transactions that are tried again.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};

/// How long one call keeps trying a transaction that meets dead-locks, claimed objects or a
/// database that restarts. After that the caller is told to come back (503, Retry-After).
const RETRY_FOR: Duration = Duration::from_secs(10);

/// Runs `transaction`, which begins and commits its own, until it succeeds, fails for good or the
/// time is up.
///
/// # Errors
/// With its last error.
pub async fn retry<T, E, Fut>(
    transaction: impl FnMut() -> Fut,
    mut is_transient: impl FnMut(&E) -> bool,
) -> Result<T, E>
where
    Fut: Future<Output = Result<T, E>>,
{
    let policy = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times();
    // Of the tries too, not of the pauses alone: each may wait for locks.
    let until = Instant::now() + RETRY_FOR;
    transaction.retry(policy).when(|error| Instant::now() < until && is_transient(error)).await
}
