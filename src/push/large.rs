//! A large NAR: its parts are sent while it is packed, so that neither memory nor disk follows its
//! size.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::{
    object_key::ObjectKey,
    parts::part_bytes,
    wire::{ObjectSpec, StoredObject, StoredPart, StoredRequest, UrlAnswer},
};
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    PushError,
    budget::{Budget, Reserved},
    deliver::{Delivered, deliver},
    listing,
    plan::Work,
    progress::InFlight,
    send::{Body, SendError},
    upload::Job,
};
use crate::pack::{self, PackedParts, Part, PartSink, compressor_bytes, most_workers, pack_parts};

/// Threads that compress one NAR: four give more than most networks take, and two NARs can be packed
/// side by side on a machine with more cores.
const MAX_WORKERS: u32 = 4;

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
    for _ in 0..TRIES {
        let spec = ObjectSpec::LargeNar { nar_hash: work.nar_hash };
        let key = match job.url(spec, what).await? {
            UrlAnswer::Multipart { key } => key,
            UrlAnswer::Stored => {
                let core = job.cores(1).await;
                let listed = job.pack(work, core, |at| pack::list(&at.real_path, &at.cancel));
                listing::send(job, work, listed.await?).await?;
                return Ok(None);
            }
            _ => return Err(PushError::Send { what: what(), source: SendError::NoUrl }),
        };
        let Some((packed, parts)) = send_parts(job, work, &key, part_bytes, shown).await? else {
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

/// Packs and sends side by side. `None`: the multipart upload is no more.
async fn send_parts(
    job: &Job<'_>,
    work: &Work,
    key: &ObjectKey,
    part_bytes: u64,
    shown: &InFlight<'_>,
) -> Result<Option<(PackedParts, Vec<StoredPart>)>, PushError> {
    let options = job.pack_options();
    let wanted = job.cores.min(MAX_WORKERS);
    let workers = most_workers(options.level, job.cx.options.buffered, wanted);
    let cores = job.cores(wanted).await;
    let compressing = job.budget.reserve(compressor_bytes(options.level, workers)).await;
    // One part waits while the next is packed: all others are on their way.
    let (sender, parts) = mpsc::channel(1);
    let sink = Sink { runtime: Handle::current(), budget: job.budget.clone(), part_bytes, sender };
    let packing = job.pack(work, cores, move |at| {
        let cut = (part_bytes, workers);
        let packed = pack_parts(&at.real_path, &at.expected, &options, cut, sink, &at.cancel);
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
    // Whichever fails ends the other: a sink whose parts nobody takes, a stream without an end.
    match tokio::join!(packing, sending) {
        (_, Err(PartError::Gone)) => Ok(None),
        (_, Err(PartError::Failed(error))) => Err(error),
        (Err(error), Ok(_)) => Err(error),
        (Ok(packed), Ok(mut parts)) => {
            parts.sort_unstable_by_key(|part| part.number);
            Ok(Some((packed, parts)))
        }
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
    budget: Budget,
    part_bytes: u64,
    sender: mpsc::Sender<Part<Buffer>>,
}

impl PartSink for Sink {
    type Buffer = Buffer;

    fn buffer(&mut self) -> io::Result<Buffer> {
        let reserved = self.budget.reserve_blocking(&self.runtime, self.part_bytes)?;
        Ok(Buffer { bytes: Vec::with_capacity(self.part_bytes as usize), reserved })
    }

    fn take(&mut self, part: Part<Buffer>) -> io::Result<()> {
        self.sender.blocking_send(part).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
