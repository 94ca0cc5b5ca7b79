//! A large NAR: its parts are sent while it is packed, so that neither memory nor disk follows its
//! size.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::{
    object_key::ObjectKey,
    parts::part_bytes,
    wire::{ObjectSpec, StoredObject, StoredPart, StoredRequest, UrlAnswer},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, mpsc},
};

use super::{
    PushError,
    body::Body,
    budget::{Budget, Reserved},
    deliver::{Delivered, deliver},
    listing,
    plan::Work,
    progress::InFlight,
    send::SendError,
    upload::Job,
};
use crate::pack::{PackedParts, Part, PartSink, compressor_bytes, most_workers, pack_parts};

/// How often a multipart upload is begun for one NAR: its own may be aborted for another push's,
/// which then fails too.
const TRIES: usize = 3;

/// Parts of one NAR under way. The budget and the bound on requests are below it mostly.
const PARTS_AT_ONCE: usize = 64;

/// Sends a NAR in parts. Answers the bytes that were sent; `None`: another push has sent it.
pub(super) async fn send(
    job: &Job<'_>,
    work: &Work,
    shown: &InFlight<'_>,
) -> Result<Option<u64>, PushError> {
    let what = || format!("the NAR of {}", work.path);
    let part_bytes = part_bytes(work.nar_size)
        .map_err(|source| PushError::TooLarge { path: work.path.to_string(), source })?;
    let (bodies, level) = (job.memory.bodies.total(), job.cx.options.level);
    if part_bytes > bodies {
        let least = job.cx.options.buffered - bodies + 2 * part_bytes;
        return Err(PushError::PartTooLarge { path: work.path.to_string(), part_bytes, least });
    }
    // As many as there are cores, if they fit.
    let workers = most_workers(level, job.memory.compressors.total(), job.cores);
    for _ in 0..TRIES {
        // Before anything else: the largest NAR is the first in the queue for them.
        let cores = job.cores(workers).await;
        let spec = ObjectSpec::LargeNar { nar_hash: work.nar_hash };
        let key = match job.url(spec, what).await? {
            UrlAnswer::Multipart { key } => key,
            UrlAnswer::Stored => {
                listing::send(job, work, job.list(work, cores).await?).await?;
                return Ok(None);
            }
            _ => return Err(PushError::Send { what: what(), source: SendError::NoUrl }),
        };
        let cut = Cut { part_bytes, workers, cores };
        let Some((packed, parts)) = send_parts(job, work, &key, cut, shown).await? else {
            continue;
        };
        let object = StoredObject { key, file_hash: Some(packed.file_hash), parts };
        // In a call of its own: it may name 10,000 parts, and S3 takes a while to put them together.
        let report = StoredRequest { objects: vec![object], ..StoredRequest::default() };
        if job.cx.api.stored(&job.open.id, &report).await?.missing.is_empty() {
            listing::send(job, work, packed.listing).await?;
            return Ok(Some(packed.bytes));
        }
    }
    Err(PushError::Lost { path: work.path.to_string() })
}

/// How a NAR becomes parts.
struct Cut {
    part_bytes: u64,
    workers: u32,
    cores: Option<OwnedSemaphorePermit>,
}

/// Stops the thread that packs one NAR when its parts are wanted no more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Packs and sends side by side. `None`: the multipart upload is no more.
async fn send_parts(
    job: &Job<'_>,
    work: &Work,
    key: &ObjectKey,
    Cut { part_bytes, workers, cores }: Cut,
    shown: &InFlight<'_>,
) -> Result<Option<(PackedParts, Vec<StoredPart>)>, PushError> {
    let options = job.pack_options();
    let compressing = compressor_bytes(options.level, workers);
    let compressing = job.memory.compressors.reserve(compressing).await;
    // One part waits while the next is packed: all others are on their way.
    let (sender, parts) = mpsc::channel(1);
    let bodies = job.memory.bodies.clone();
    let sink = Sink { runtime: Handle::current(), bodies, part_bytes, sender };
    let stop = Stop(Arc::default());
    let stopped = Arc::clone(&stop.0);
    let packing = job.pack(work, cores, move |at| {
        let cut = (part_bytes, workers);
        let packed = pack_parts(&at.real_path, &at.expected, &options, cut, sink, &stopped);
        drop(compressing);
        packed
    });
    let parts = stream::unfold(parts, |mut parts| async move {
        let part: Part<Buffer> = parts.recv().await?;
        Some((part, parts))
    });
    let sending = parts
        .map(|part| send_part(job, work, key, part, shown))
        .buffer_unordered(PARTS_AT_ONCE)
        .try_collect::<Vec<StoredPart>>();
    let packing = async { packing.await.map_err(PartError::Failed) };
    // The first that fails ends the other, and is what is said.
    match tokio::try_join!(packing, sending) {
        Ok((packed, mut parts)) => {
            parts.sort_unstable_by_key(|part| part.number);
            Ok(Some((packed, parts)))
        }
        Err(PartError::Gone) => Ok(None),
        Err(PartError::Failed(error)) => Err(error),
    }
}

enum PartError {
    Gone,
    Failed(PushError),
}

async fn send_part(
    job: &Job<'_>,
    work: &Work,
    key: &ObjectKey,
    part: Part<Buffer>,
    shown: &InFlight<'_>,
) -> Result<StoredPart, PartError> {
    let Part { number, buffer: Buffer { bytes, reserved }, checksum, nar_bytes } = part;
    let what = || format!("part {number} of the NAR of {}", work.path);
    let failed = |source| PartError::Failed(PushError::Send { what: what(), source });
    let (count, body) = (bytes.len() as u64, Body::Memory(Bytes::from(bytes)));
    let spec = ObjectSpec::Part { key: key.clone(), number, bytes: count, checksum };
    let delivered = deliver(job, spec, &body, what).await.map_err(PartError::Failed)?;
    drop((body, reserved));
    match delivered {
        Delivered::Taken { etag: Some(etag), .. } => {
            shown.part(nar_bytes);
            Ok(StoredPart { number, bytes: count, etag, checksum })
        }
        Delivered::Taken { etag: None, .. } => Err(failed(SendError::NoETag)),
        Delivered::Gone => Err(PartError::Gone),
        Delivered::Stored | Delivered::Busy => Err(failed(SendError::NoUrl)),
    }
}

/// A part's bytes, which are reserved until it is sent.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    reserved: Reserved,
}

impl AsMut<Vec<u8>> for Buffer {
    fn as_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// Hands parts from the thread that packs to the tasks that send.
struct Sink {
    runtime: Handle,
    bodies: Budget,
    part_bytes: u64,
    sender: mpsc::Sender<Part<Buffer>>,
}

impl PartSink for Sink {
    type Buffer = Buffer;

    fn buffer(&mut self) -> io::Result<Buffer> {
        let reserved = self.bodies.reserve_blocking(&self.runtime, self.part_bytes)?;
        Ok(Buffer { bytes: Vec::with_capacity(self.part_bytes as usize), reserved })
    }

    fn take(&mut self, part: Part<Buffer>) -> io::Result<()> {
        self.sender.blocking_send(part).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
