//! Packs and sends what is missing: NARs, and the listings that come with them.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use md5::{Digest as _, Md5};
use niks3_core::{
    hash::{BodyChecksum, BodyMd5, FileHash},
    limits::MAX_LISTING_BYTES,
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

/// Listings of paths with the same contents that are sent at once.
const LISTINGS_AT_ONCE: usize = 4;

/// A URL that is refused (403) is asked for anew only if it is older than this: a young one is
/// refused for another reason.
const OLD_URL: Duration = Duration::from_secs(60);

/// How often the URL of one NAR is asked for anew.
const RENEWALS: usize = 2;

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
    let (listing, sent) = if work.send_nar {
        let Packed { body, bytes, file_hash, md5, listing } = pack(job, &work, pack_nar).await?;
        let nar = Nar { body: body.into(), bytes, file_hash, md5 };
        (listing, send_nar(job, &work, nar).await?)
    } else {
        (pack(job, &work, list_only).await?, Sent::default())
    };
    send_listings(job, &work, listing).await?;
    Ok(sent)
}

/// A NAR that is ready to be sent.
struct Nar {
    body: send::Body,
    bytes: u64,
    file_hash: FileHash,
    md5: BodyMd5,
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

/// Sends a NAR and reports it at once: whatever happens to the rest, it is not sent again.
async fn send_nar(job: &Job<'_>, work: &Work, nar: Nar) -> Result<Sent, PushError> {
    let shown = || format!("the NAR of {}", work.path);
    let failed = |source| PushError::Send { what: shown(), source };
    let spec = ObjectSpec::Nar {
        nar_hash: work.nar_hash,
        bytes: nar.bytes,
        checksum: BodyChecksum::Md5(nar.md5),
    };
    let mut renewals = 0;
    loop {
        let (key, url, headers) = match ask(job, spec.clone(), shown).await? {
            UrlAnswer::Put { key, url, headers } => (key, url, headers),
            // Another push has sent it meanwhile.
            UrlAnswer::Stored => return Ok(Sent::default()),
            UrlAnswer::Busy | UrlAnswer::Gone | UrlAnswer::Multipart { .. } => {
                return Err(failed(SendError::NoUrl));
            }
        };
        let asked = Instant::now();
        match send::put(&job.cx.http, &url, &headers, &nar.body, nar.bytes).await {
            Ok(()) => {
                debug!(object.key = %key, object.bytes = nar.bytes, "sent a NAR");
                job.cx.progress.sent_nar(nar.bytes);
                let object =
                    StoredObject { key, file_hash: Some(nar.file_hash), parts: Vec::new() };
                let report = StoredRequest { objects: vec![object], ..StoredRequest::default() };
                job.reports.report(report).await;
                return Ok(Sent { nars: 1, bytes: nar.bytes });
            }
            // The tries took longer than the URL lives: another one for the same key.
            Err(error)
                if error.is_forbidden() && asked.elapsed() > OLD_URL && renewals < RENEWALS =>
            {
                renewals += 1;
            }
            Err(error) => return Err(failed(error)),
        }
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
async fn send_listings(job: &Job<'_>, work: &Work, listing: Listing) -> Result<(), PushError> {
    let unlistable =
        || StoredRequest { no_listing: work.listings.clone(), ..StoredRequest::default() };
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
            job.reports.report(unlistable()).await;
            return Ok(());
        }
    };
    let encoding = job.encoding;
    let encoded = tokio::task::spawn_blocking(move || match encoding {
        MetadataEncoding::None => Ok(json.into_bytes()),
        MetadataEncoding::Zstd => zstd::bulk::compress(json.as_bytes(), LISTING_LEVEL),
    });
    let body = match encoded.await.map_err(PushError::Task)? {
        Ok(body) if body.len() as u64 <= MAX_LISTING_BYTES => body,
        Ok(_) => {
            job.reports.report(unlistable()).await;
            return Ok(());
        }
        Err(error) => {
            debug!(%error, "cannot compress a listing");
            return Ok(());
        }
    };
    let (bytes, md5) = (body.len() as u64, BodyMd5::new(Md5::digest(&body).into()));
    let body = &send::Body::Memory(Bytes::from(body));
    stream::iter(&work.listings)
        .for_each_concurrent(LISTINGS_AT_ONCE, async |path| {
            let spec = ObjectSpec::Listing { path: *path, bytes, checksum: BodyChecksum::Md5(md5) };
            let Some(Ok(UrlAnswer::Put { key, url, headers })) = job.urls.ask(spec).await else {
                return debug!(listing.path = %path, "no URL for a listing");
            };
            match send::put(&job.cx.http, &url, &headers, body, bytes).await {
                Ok(()) => {
                    let objects = vec![StoredObject { key, file_hash: None, parts: Vec::new() }];
                    let report = StoredRequest { objects, ..StoredRequest::default() };
                    job.reports.report(report).await;
                }
                Err(error) => debug!(%error, object.key = %key, "a listing was not sent"),
            }
        })
        .await;
    Ok(())
}
