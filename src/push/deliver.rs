//! From an object's body to its place in the bucket: a URL is asked for, the body is sent there.

use std::time::{Duration, Instant};

use niks3_core::{
    object_key::ObjectKey,
    wire::{ObjectSpec, StoredObject, UrlAnswer},
};
use tracing::debug;

use super::{PushError, body::Body, desk::Report, send::SendError, upload::Job};

/// A URL that is refused (403) is asked for anew only if it is older than this: a young one is
/// refused for another reason.
const OLD_URL: Duration = Duration::from_secs(60);

/// Tries of one body that fail for another reason than too many requests: some 20 seconds of
/// pauses, longer than a node of S3 takes to be replaced.
const TRIES: usize = 7;

/// The same of a listing or log, which nothing waits for.
const OPTIONAL_TRIES: usize = 3;

/// How often the URL of one body is asked for anew.
const RENEWALS: usize = 4;

/// What has become of a body.
pub(super) enum Delivered {
    /// S3 has taken it.
    Taken {
        /// Where.
        key: ObjectKey,
        /// S3's answer.
        etag: Option<String>,
    },
    /// It was in the bucket already.
    Stored,
    /// It is not wanted now: another push has that key in hand.
    Busy,
    /// The multipart upload that it is a part of is no more.
    Gone,
}

/// Sends one body; `shown` is what errors call it.
pub(super) async fn deliver(
    job: &Job<'_>,
    spec: ObjectSpec,
    body: &Body,
    shown: impl Fn() -> String,
) -> Result<Delivered, PushError> {
    let failed = |source| PushError::Send { what: shown(), source };
    let bytes = match &spec {
        ObjectSpec::Nar { bytes, .. }
        | ObjectSpec::Listing { bytes, .. }
        | ObjectSpec::Log { bytes, .. }
        | ObjectSpec::Part { bytes, .. } => *bytes,
        ObjectSpec::LargeNar { .. } => return Err(failed(SendError::NoUrl)),
    };
    let optional = matches!(spec, ObjectSpec::Listing { .. } | ObjectSpec::Log { .. });
    let tries = if optional { OPTIONAL_TRIES } else { TRIES };
    let mut renewals = 0;
    loop {
        let (key, url, headers) = match job.url(spec.clone(), &shown).await? {
            UrlAnswer::Put { key, url, headers } => (key, url, headers),
            UrlAnswer::Stored => return Ok(Delivered::Stored),
            UrlAnswer::Busy => return Ok(Delivered::Busy),
            UrlAnswer::Gone => return Ok(Delivered::Gone),
            UrlAnswer::Multipart { .. } => return Err(failed(SendError::NoUrl)),
        };
        let asked = Instant::now();
        match job.cx.s3.put(&url, &headers, (body, bytes), tries).await {
            Ok(etag) => return Ok(Delivered::Taken { key, etag }),
            Err(error) if is_part(&spec) && error.is_no_such_upload() => {
                return Ok(Delivered::Gone);
            }
            // Waiting for S3 took longer than the URL lives: another one for the same key.
            Err(error)
                if error.is_forbidden() && asked.elapsed() > OLD_URL && renewals < RENEWALS =>
            {
                renewals += 1;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Sends a body that nothing waits for, and reports it. Whether it was sent: what goes wrong is worth a
/// line in the log, not the push. `job`'s errors are met by the next NAR, or by the commit.
pub(super) async fn deliver_optional(
    job: &Job<'_>,
    spec: ObjectSpec,
    body: &Body,
    shown: impl Fn() -> String,
) -> bool {
    match deliver(job, spec, body, &shown).await {
        Ok(Delivered::Taken { key, .. }) => {
            let object = StoredObject { key, file_hash: None, parts: Vec::new() };
            job.report(Report::Sent(object)).await.unwrap_or(false)
        }
        Ok(_) => false,
        Err(error) => {
            debug!(error = &error as &dyn std::error::Error, "{} was not sent", shown());
            false
        }
    }
}

fn is_part(spec: &ObjectSpec) -> bool {
    matches!(spec, ObjectSpec::Part { .. })
}
