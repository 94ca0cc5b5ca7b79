//! Listings: optional. What goes wrong with one is worth a line in the log, not the push.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use niks3_core::{
    hash::BodyChecksum,
    limits::MAX_LISTING_BYTES,
    wire::{MetadataEncoding, ObjectSpec},
};
use tracing::debug;

use super::{
    PushError, body::Body, deliver::deliver_optional, desk::Report, plan::Work, upload::Job,
};
use crate::pack::Listing;

/// Listings are small; a higher level costs nothing that one would notice.
const LEVEL: i32 = 9;

/// Listings of paths with the same contents that are sent at once.
const AT_ONCE: usize = 4;

/// Sends the listing of some contents for all of the work's paths that want it.
pub(super) async fn send(job: &Job<'_>, work: &Work, listing: Listing) -> Result<(), PushError> {
    if work.listings.is_empty() {
        return Ok(());
    }
    let json = match listing {
        Listing::Json(json) => json,
        Listing::NotUtf8(file) => {
            job.cx.progress.warn(&format!(
                "{} gets no listing: the name or target of {:?} in it is not UTF-8",
                work.path, file.name
            ));
            return unlistable(job, work).await;
        }
    };
    let (encoding, algorithm) = (job.open.metadata_encoding, job.open.checksum);
    let encoded = tokio::task::spawn_blocking(move || {
        let body = match encoding {
            MetadataEncoding::None => json.into_bytes(),
            MetadataEncoding::Zstd => zstd::bulk::compress(json.as_bytes(), LEVEL)?,
        };
        let checksum = BodyChecksum::of(algorithm, &body);
        Ok::<_, std::io::Error>((body, checksum))
    });
    let (body, checksum) = match encoded.await.map_err(PushError::Task)? {
        Ok(encoded) => encoded,
        Err(error) => {
            debug!(%error, "cannot compress a listing");
            return Ok(());
        }
    };
    let bytes = body.len() as u64;
    if bytes > MAX_LISTING_BYTES {
        return unlistable(job, work).await;
    }
    let body = &Body::Memory(Bytes::from(body));
    stream::iter(&work.listings)
        .for_each_concurrent(AT_ONCE, async |path| {
            let spec = ObjectSpec::Listing { path: *path, bytes, checksum };
            deliver_optional(job, spec, body, || format!("the listing of {path}")).await;
        })
        .await;
    Ok(())
}

async fn unlistable(job: &Job<'_>, work: &Work) -> Result<(), PushError> {
    for path in &work.listings {
        job.report(Report::NoListing(*path)).await?;
    }
    Ok(())
}
