//! Packs and sends what is missing: NARs, the listings that come with them, and build logs.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::wire::{ObjectSpec, OpenUpload, StoredObject, UrlAnswer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Context, PushError,
    body::Body,
    budget::Memory,
    deliver::{Delivered, deliver},
    desk::{self, Report, ReportDesk, UrlDesk},
    large, listing, log,
    plan::{LogWork, Work},
    send::SendError,
};
use crate::pack::{self, Expected, PackOptions, compressor_bytes};

/// Paths in progress: waiting for a core to pack, for memory, for a URL, for S3 or for the server to
/// look. What each of these may take has a bound of its own; many at once make few calls.
const IN_PROGRESS: usize = 256;

/// How often a NAR is sent that S3 said it had and the server then does not find.
const LOST_TRIES: usize = 3;

/// Sends all of `work` and `logs`, and reports it. Every NAR is in the bucket afterwards: the server looked.
pub(super) async fn all(
    cx: &Context,
    open: &OpenUpload,
    work: Vec<Work>,
    logs: Vec<LogWork>,
) -> Result<(), PushError> {
    let (urls, serve_urls) = desk::urls(&cx.api, &open.id);
    let (reports, serve_reports) = desk::reports(&cx.api, &open.id);
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let memory = Memory::new(&cx.options);
    let cancel = Cancel { threads: Arc::default(), memory: memory.clone() };
    let packers = Arc::new(Semaphore::new(cores));
    let job = Job { cx, open, urls, reports, memory, packers, cores: cores as u32, cancel };
    let send = async {
        // Moved in, so that the desks close when the last work is done.
        let job = job;
        let nars = stream::iter(work)
            .map(|work| one(&job, work))
            .buffer_unordered(IN_PROGRESS)
            .try_collect::<()>();
        let logs = stream::iter(logs)
            .map(|log| log::send(&job, log))
            .buffer_unordered(log::AT_ONCE)
            .try_collect::<()>();
        tokio::try_join!(nars, logs).map(drop)
    };
    let serve = async {
        tokio::join!(serve_urls, serve_reports);
        Ok(())
    };
    tokio::try_join!(send, serve).map(drop)
}

/// One upload while its work is done.
pub(super) struct Job<'a> {
    pub(super) cx: &'a Context,
    pub(super) open: &'a OpenUpload,
    urls: UrlDesk,
    reports: ReportDesk,
    pub(super) memory: Memory,
    /// One permit for each core: packing is work for the processor.
    packers: Arc<Semaphore>,
    pub(super) cores: u32,
    cancel: Cancel,
}

/// Stops the threads that pack when the push is over, however it ends.
struct Cancel {
    threads: Arc<AtomicBool>,
    memory: Memory,
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.threads.store(true, Ordering::Relaxed);
        // Those that wait for memory see it so.
        self.memory.close();
    }
}

impl Job<'_> {
    /// What to do about an object.
    pub(super) async fn url(
        &self,
        spec: ObjectSpec,
        shown: impl Fn() -> String,
    ) -> Result<UrlAnswer, PushError> {
        match self.urls.ask(spec).await {
            Some(answer) => Ok(answer?),
            None => Err(PushError::Send { what: shown(), source: SendError::NoUrl }),
        }
    }

    /// Reports, and learns whether the server has found it.
    pub(super) async fn report(&self, report: Report) -> Result<bool, PushError> {
        match self.reports.ask(report).await {
            Some(found) => Ok(found?),
            None => Ok(false),
        }
    }

    /// Waits for `cores` processor cores.
    pub(super) async fn cores(&self, cores: u32) -> Option<OwnedSemaphorePermit> {
        // Closed never, so permits always come.
        Arc::clone(&self.packers).acquire_many_owned(cores).await.ok()
    }

    /// Is set when the push is over: threads look at it.
    pub(super) fn cancel(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel.threads)
    }

    pub(super) fn pack_options(&self) -> PackOptions {
        PackOptions {
            level: self.cx.options.level,
            checksum: self.open.checksum,
            case_hack: self.cx.store.settings().case_hack,
        }
    }

    /// The listing alone, on a thread that holds `permit`.
    pub(super) async fn list(
        &self,
        work: &Work,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<pack::Listing, PushError> {
        let options = self.pack_options();
        let list = move |at: Packing| pack::list(&at.real_path, &at.expected, &options, &at.cancel);
        self.pack(work, permit, list).await
    }

    /// Runs `pack` on a thread of its own that holds `permit` until it ends, also if we are dropped.
    pub(super) async fn pack<T: Send + 'static>(
        &self,
        work: &Work,
        permit: Option<OwnedSemaphorePermit>,
        pack: impl FnOnce(Packing) -> Result<T, pack::PackError> + Send + 'static,
    ) -> Result<T, PushError> {
        let settings = self.cx.store.settings();
        let packing = Packing {
            real_path: settings.real_store_dir.join(work.path.to_string()),
            expected: Expected {
                path: work.path.clone(),
                nar_hash: work.nar_hash,
                nar_size: work.nar_size,
            },
            cancel: self.cancel(),
        };
        let packed = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            pack(packing)
        });
        let path = || work.path.absolute(&settings.store_dir);
        packed
            .await
            .map_err(PushError::Task)?
            .map_err(|source| PushError::Pack { path: path(), source })
    }
}

/// What a thread that packs is told.
pub(super) struct Packing {
    pub(super) real_path: std::path::PathBuf,
    pub(super) expected: Expected,
    pub(super) cancel: Arc<AtomicBool>,
}

async fn one(job: &Job<'_>, work: Work) -> Result<(), PushError> {
    if !work.send_nar {
        let core = job.cores(1).await;
        let listing = job.list(&work, core).await?;
        return listing::send(job, &work, listing).await;
    }
    let shown = job.cx.progress.begin(&work);
    let bytes = if work.nar_size > job.cx.options.multipart_threshold {
        large::send(job, &work, &shown).await?
    } else {
        small(job, &work).await?
    };
    match bytes {
        Some(bytes) => shown.sent(bytes),
        None => shown.was_there(),
    }
    Ok(())
}

/// Sends a NAR in one PUT. `None`: another push has sent it meanwhile.
async fn small(job: &Job<'_>, work: &Work) -> Result<Option<u64>, PushError> {
    // A core first: memory that is reserved is used.
    let core = job.cores(1).await;
    let body_bytes = work.nar_size.min(pack::MAX_BODY_IN_MEMORY as u64);
    let compressing =
        job.memory.compressors.reserve(compressor_bytes(job.cx.options.level, 0)).await;
    let mut reserved = job.memory.bodies.reserve(body_bytes).await;
    let options = job.pack_options();
    let packed = job
        .pack(work, core, move |at| {
            let packed = pack::pack(&at.real_path, &at.expected, &options, &at.cancel);
            drop(compressing);
            packed
        })
        .await?;
    // A body in a file keeps what one in memory takes: that bounds the files too.
    if let Some(reserved) = &mut reserved {
        reserved.shrink_to(packed.bytes.min(body_bytes));
    }
    let (bytes, checksum, file_hash) = (packed.bytes, packed.checksum, packed.file_hash);
    let spec = ObjectSpec::Nar { nar_hash: work.nar_hash, bytes, checksum };
    let body = Body::from(packed.body);
    let nar = async {
        for _ in 0..LOST_TRIES {
            let shown = || format!("the NAR of {}", work.path);
            let key = match deliver(job, spec.clone(), &body, shown).await? {
                Delivered::Taken { key, .. } => key,
                Delivered::Stored => return Ok(None),
                Delivered::Busy | Delivered::Gone => {
                    return Err(PushError::Send { what: shown(), source: SendError::NoUrl });
                }
            };
            // At once: whatever happens to the rest, it is not sent again.
            let object = StoredObject { key, file_hash: Some(file_hash), parts: Vec::new() };
            if job.report(Report::Sent(object)).await? {
                return Ok(Some(bytes));
            }
        }
        Err(PushError::Lost { path: work.path.to_string() })
    };
    let (sent, ()) = tokio::try_join!(nar, listing::send(job, work, packed.listing))?;
    Ok(sent)
}
