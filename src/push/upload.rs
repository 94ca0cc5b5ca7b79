//! Packs and sends what is missing: NARs, and the listings that come with them.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use md5::{Digest as _, Md5};
use niks3_core::{
    hash::BodyMd5,
    limits::MAX_LISTING_BYTES,
    object_key::ObjectKey,
    wire::{MetadataEncoding, ObjectSpec, OpenUpload, StoredObject, StoredRequest, UrlAnswer},
};
use tokio::sync::Semaphore;
use tracing::debug;

use super::{
    Context, PushError,
    batch::{ReportDesk, UrlDesk},
    plan::Work,
    send::{self, SendError},
};
use crate::pack::{self, Expected, Listing, PackOptions, Packed};

/// Things under way at once: waiting for a core to pack, for a URL or for S3. Each that is packed
/// keeps up to [`pack::MAX_BODY_IN_MEMORY`] in memory.
const UPLOADS_AT_ONCE: usize = 24;

/// Fast enough to keep one core busy at 200 MB/s, and a third of the size.
const COMPRESSION_LEVEL: i32 = 3;

/// Listings are small; a higher level costs nothing that one would notice.
const LISTING_LEVEL: i32 = 9;

/// What has been sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) nars: usize,
    pub(super) bytes: u64,
}

/// Sends all of `work` and reports it. Every NAR is in the bucket afterwards: the server looked.
pub(super) async fn all(
    cx: &Context,
    open: &OpenUpload,
    work: Vec<Work>,
) -> Result<Sent, PushError> {
    let (urls, serve_urls) = UrlDesk::open(&cx.api, &open.id);
    let (reports, serve_reports) = ReportDesk::open(&cx.api, &open.id);
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let job = Job {
        cx,
        urls,
        reports,
        encoding: open.metadata_encoding,
        packers: Arc::new(Semaphore::new(cores)),
        cancel: Cancel::default(),
    };
    let send = async {
        // Moved in, so that the desks close when the last work is done.
        let job = job;
        stream::iter(work)
            .map(|work| one(&job, work))
            .buffer_unordered(UPLOADS_AT_ONCE)
            .try_fold(Sent::default(), |sum, sent| async move {
                Ok(Sent { nars: sum.nars + sent.nars, bytes: sum.bytes + sent.bytes })
            })
            .await
    };
    let serve_urls = async {
        serve_urls.await;
        Ok(())
    };
    let serve_reports = async { serve_reports.await.map_err(PushError::from) };
    let (sent, (), missing) = tokio::try_join!(send, serve_urls, serve_reports)?;
    match missing.first() {
        Some(key) => Err(PushError::Lost { count: missing.len(), example: key.to_string() }),
        None => Ok(sent),
    }
}

struct Job<'a> {
    cx: &'a Context,
    urls: UrlDesk,
    reports: ReportDesk,
    encoding: MetadataEncoding,
    /// One permit for each core: packing is work for the processor.
    packers: Arc<Semaphore>,
    cancel: Cancel,
}

/// Stops the threads that pack when the push is over, however it ends.
#[derive(Default)]
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn one(job: &Job<'_>, work: Work) -> Result<Sent, PushError> {
    let mut report = StoredRequest::default();
    let (listing, sent) = if work.send_nar {
        let packed = pack(job, &work, pack_nar).await?;
        let listing = packed.listing.clone();
        (listing, send_nar(job, &work, packed, &mut report).await?)
    } else {
        (pack(job, &work, list_only).await?, Sent::default())
    };
    send_listings(job, &work, listing, &mut report).await?;
    job.reports.report(report).await;
    Ok(sent)
}

type PackFn<T> = fn(&std::path::Path, &Expected, &AtomicBool) -> Result<T, pack::PackError>;

fn pack_nar(
    path: &std::path::Path,
    expected: &Expected,
    cancel: &AtomicBool,
) -> Result<Packed, pack::PackError> {
    pack::pack(path, expected, &PackOptions { level: COMPRESSION_LEVEL }, cancel)
}

fn list_only(
    path: &std::path::Path,
    _: &Expected,
    cancel: &AtomicBool,
) -> Result<Listing, pack::PackError> {
    pack::list(path, cancel)
}

/// Runs `pack` on a thread of its own, as many at once as there are cores.
async fn pack<T: Send + 'static>(
    job: &Job<'_>,
    work: &Work,
    pack: PackFn<T>,
) -> Result<T, PushError> {
    let settings = job.cx.store.settings();
    let shown = work.path.absolute(&settings.store_dir);
    let real = settings.real_store_dir.join(work.path.to_string());
    let expected =
        Expected { path: work.path.clone(), nar_hash: work.nar_hash, nar_size: work.nar_size };
    // Closed never, so a permit always comes; it goes with the thread, also if we are dropped.
    let permit = Arc::clone(&job.packers).acquire_owned().await;
    let cancel = Arc::clone(&job.cancel.0);
    let packing = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        pack(&real, &expected, &cancel)
    });
    let packed = packing.await.map_err(PushError::Task)?;
    packed.map_err(|source| PushError::Pack { path: shown, source })
}

async fn send_nar(
    job: &Job<'_>,
    work: &Work,
    packed: Packed,
    report: &mut StoredRequest,
) -> Result<Sent, PushError> {
    let shown = || format!("the NAR of {}", work.path);
    let Packed { body, bytes, file_hash, md5, .. } = packed;
    let spec = ObjectSpec::Nar { nar_hash: work.nar_hash, bytes, md5 };
    match ask(job, spec, shown).await? {
        UrlAnswer::Put { key, url, headers } => {
            let body = body.into();
            send::put(&job.cx.http, &url, &headers, &body, bytes)
                .await
                .map_err(|source| PushError::Send { what: shown(), source })?;
            debug!(object.key = %key, object.bytes = bytes, "sent a NAR");
            job.cx.progress.sent_nar(bytes);
            report.objects.push(StoredObject { key, file_hash: Some(file_hash) });
            Ok(Sent { nars: 1, bytes })
        }
        // Another push has sent it meanwhile.
        UrlAnswer::Stored => Ok(Sent::default()),
        UrlAnswer::Busy => Err(PushError::Send { what: shown(), source: SendError::NoUrl }),
    }
}

async fn ask(
    job: &Job<'_>,
    spec: ObjectSpec,
    shown: impl Fn() -> String,
) -> Result<UrlAnswer, PushError> {
    match job.urls.ask(spec).await {
        Some(answer) => Ok(answer?),
        None => Err(PushError::Send { what: shown(), source: SendError::NoUrl }),
    }
}

/// Listings are optional: what goes wrong with one is worth a line in the log, not the push.
async fn send_listings(
    job: &Job<'_>,
    work: &Work,
    listing: Listing,
    report: &mut StoredRequest,
) -> Result<(), PushError> {
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
            report.no_listing.extend(&work.listings);
            return Ok(());
        }
    };
    let body = match job.encoding {
        MetadataEncoding::None => json.into_bytes(),
        MetadataEncoding::Zstd => match zstd::bulk::compress(json.as_bytes(), LISTING_LEVEL) {
            Ok(body) => body,
            Err(error) => {
                debug!(%error, "cannot compress a listing");
                return Ok(());
            }
        },
    };
    let (bytes, md5) = (body.len() as u64, BodyMd5::new(Md5::digest(&body).into()));
    if bytes > MAX_LISTING_BYTES {
        report.no_listing.extend(&work.listings);
        return Ok(());
    }
    let body = send::Body::Memory(Bytes::from(body));
    for path in &work.listings {
        let shown = || ObjectKey::Listing(*path).to_string();
        let answer = ask(job, ObjectSpec::Listing { path: *path, bytes, md5 }, shown).await?;
        let UrlAnswer::Put { key, url, headers } = answer else { continue };
        match send::put(&job.cx.http, &url, &headers, &body, bytes).await {
            Ok(()) => report.objects.push(StoredObject { key, file_hash: None }),
            Err(error) => debug!(%error, object.key = %key, "a listing was not sent"),
        }
    }
    Ok(())
}
