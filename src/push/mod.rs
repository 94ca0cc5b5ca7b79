//! The push flow, top to bottom: closure → plan → pack and send → commit.

mod attachments;
mod body;
mod budget;
mod deliver;
mod desk;
mod large;
mod listing;
mod log;
pub mod plan;
mod progress;
pub mod select;
mod send;
mod upload;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use niks3_core::{
    limits::MAX_OBJECTS_PER_CALL,
    parts::TooLarge,
    signing::PublicKey,
    store_path::StorePathHash,
    wire::{
        CommitProgress, KeptPath, OpenUpload, PlanRequest, PlanResponse, UploadId, VerifyRequest,
    },
};
use reqwest::StatusCode;

use self::{
    plan::{LogWork, Work},
    select::Batch,
};
use crate::{
    api::{Api, ApiError, Commit},
    interrupt::Interrupts,
    nix::{Store, StoreError},
    pack::{PackError, compressor_bytes},
};

pub use progress::{Progress, Pushed, Style};
pub use send::{S3, SendError};

/// How long the server may publish nothing before we give up: far longer than it waits for anything
/// itself.
const STUCK_AFTER: Duration = Duration::from_secs(15 * 60);

/// Between two calls for a commit, at the least.
const COMMIT_PAUSE: Duration = Duration::from_secs(1);

/// How often a closure is planned whose plan the cache has outrun: something that was there at the
/// plan was collected or found to be lost before the commit.
const PLANS: usize = 3;

/// What a push works with.
pub struct Context {
    /// The server.
    pub api: Arc<Api>,
    /// The store.
    pub store: Arc<Store>,
    /// For presigned URLs: no token goes there.
    pub s3: S3,
    /// What the person sees meanwhile.
    pub progress: Arc<Progress>,
    /// Whether we are told to stop.
    pub interrupts: Interrupts,
    /// Paths that one of these has signed are left to the cache whose key it is. `--upstream-key`
    pub upstream_keys: Vec<PublicKey>,
    /// How it is done.
    pub options: PushOptions,
}

/// How a push is done.
#[derive(Clone, Copy, Debug)]
pub struct PushOptions {
    /// Of zstd, 1 to 19. `--compression-level`
    pub level: i32,
    /// Bytes of compressed NARs and of compressors in memory. `--max-buffered`
    pub buffered: u64,
    /// NARs of more bytes are sent in parts. `--multipart-threshold`
    pub multipart_threshold: u64,
    /// Only say what would be sent. `--dry-run`
    pub dry_run: bool,
    /// Look first whether the bucket has what the database says. `--verify-s3-integrity`
    pub verify_s3: bool,
    /// Have debug files found by their build ids. `--index-debug-info`
    pub index_debug_info: bool,
}

impl PushOptions {
    /// Bytes of [`buffered`](Self::buffered) that are for compressors: half, or what one needs.
    #[must_use]
    pub fn compressor_share(&self) -> u64 {
        compressor_bytes(self.level, 1).max(self.buffered / 2)
    }
}

/// Why a push failed. Nothing of it is committed then; what was sent is used by the next try.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The store.
    #[error("cannot read the closure from the Nix store")]
    Store(#[from] StoreError),
    /// The server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The server, asked for many at once.
    #[error(transparent)]
    SharedApi(#[from] Arc<ApiError>),
    /// A path that cannot be packed.
    #[error("cannot pack {path}")]
    Pack {
        /// The whole path.
        path: String,
        /// Why not.
        #[source]
        source: PackError,
    },
    /// S3.
    #[error("cannot send {what}")]
    Send {
        /// What was sent.
        what: String,
        /// Why not.
        #[source]
        source: SendError,
    },
    /// S3 said that it had it, or what there was of it, again and again.
    #[error(
        "the NAR of {path} was sent and is not in the bucket: S3 lost it or aborted its upload"
    )]
    Lost {
        /// Of which path.
        path: String,
    },
    /// Beyond what S3 can hold.
    #[error("cannot send the NAR of {path}")]
    TooLarge {
        /// Of which path.
        path: String,
        /// How large it is.
        #[source]
        source: TooLarge,
    },
    /// Commits that get nowhere.
    #[error("the server publishes nothing any more: {published} of {total} narinfos are there")]
    Stuck {
        /// Narinfos that are published.
        published: u64,
        /// Narinfos that shall be.
        total: u64,
    },
    /// A part alone is more than there may be in memory.
    #[error(
        "the NAR of {path} is so large that its parts have {part_bytes} bytes: give --max-buffered \
         {} MiB or more", (least / (1024 * 1024)).next_multiple_of(64)
    )]
    PartTooLarge {
        /// Of which path.
        path: String,
        /// Bytes of a part.
        part_bytes: u64,
        /// What is needed.
        least: u64,
    },
    /// Ctrl-C, or the signal by which CI systems cancel a job.
    #[error("interrupted")]
    Interrupted,
    /// A thread of ours.
    #[error("a part of the push ended unexpectedly")]
    Task(#[source] tokio::task::JoinError),
}

/// Pushes the closures of a batch.
///
/// # Errors
/// See [`PushError`]. The upload is given up then.
pub async fn push(cx: &Context, batch: &Batch) -> Result<(), PushError> {
    let mut plan = plan::request(&cx.store.settings().store_dir, &batch.paths, &batch.roots);
    plan.dry_run = cx.options.dry_run;
    plan.upstream_keys.clone_from(&cx.upstream_keys);
    let plan = attach(cx, plan).await?;
    if cx.options.verify_s3 {
        unless_interrupted(cx, verify(cx, &plan)).await?;
    }
    for n in 1.. {
        match attempt(cx, &plan).await {
            Err(error) if n < PLANS && error.is_outrun() => {
                cx.progress.note("the cache has changed since the push was planned; planning anew");
            }
            ended => return ended,
        }
    }
    Ok(())
}

/// Adds what the files say of the paths.
async fn attach(cx: &Context, mut plan: PlanRequest) -> Result<PlanRequest, PushError> {
    let (store, index_debug_info) = (Arc::clone(&cx.store), cx.options.index_debug_info);
    let attached = tokio::task::spawn_blocking(move || {
        let warnings = attachments::add(store.settings(), index_debug_info, &mut plan);
        (plan, warnings)
    });
    let (plan, warnings) = attached.await.map_err(PushError::Task)?;
    warnings.iter().for_each(|warning| cx.progress.warn(warning));
    Ok(plan)
}

/// What is dropped here has nothing to give up.
async fn unless_interrupted<T>(
    cx: &Context,
    call: impl Future<Output = Result<T, PushError>>,
) -> Result<T, PushError> {
    tokio::select! {
        called = call => called,
        () = cx.interrupts.reach(1) => Err(PushError::Interrupted),
    }
}

/// Has the server look in the bucket for what its database says is there.
async fn verify(cx: &Context, plan: &PlanRequest) -> Result<(), PushError> {
    let paths: Vec<StorePathHash> = plan.paths.iter().map(|path| path.path.hash()).collect();
    let (mut looked_for, mut lost) = (0, Vec::new());
    for paths in paths.chunks(MAX_OBJECTS_PER_CALL) {
        let answer = cx.api.verify(&VerifyRequest { paths: paths.to_vec() }).await?;
        looked_for += answer.looked_for;
        lost.extend(answer.lost);
    }
    match lost.first() {
        None => cx.progress.note(&format!("the bucket has all of {looked_for} objects")),
        Some(first) => cx.progress.warn(&format!(
            "the bucket has lost {} of {looked_for} objects, {first} among them; they are sent again",
            lost.len()
        )),
    }
    Ok(())
}

/// Plans, sends and commits once.
async fn attempt(cx: &Context, plan: &PlanRequest) -> Result<(), PushError> {
    let planned = async { Ok(cx.api.plan(plan).await?) };
    let answer = unless_interrupted(cx, planned).await?;
    warn_kept(cx, plan, &answer.kept);
    if answer.external > 0 {
        let (left, paths) = (answer.external, plan.paths.len());
        cx.progress
            .note(&format!("{left} of {paths} paths are left to the caches that signed them"));
    }
    let (work, logs) = (plan::work(plan, &answer), plan::logs(plan, &answer));
    if plan.dry_run {
        cx.progress.would_send(&work, &logs);
        return Ok(());
    }
    let PlanResponse { upload: Some(open), .. } = answer else { return Ok(()) };
    cx.progress.start(plan.paths.len(), &work, logs.len());
    let sent: Result<(), PushError> = tokio::select! {
        sent = send_and_publish(cx, &open, work, logs) => sent,
        // Dropping the work stops it: threads that pack see the flag, requests are cut off.
        () = cx.interrupts.reach(1) => Err(PushError::Interrupted),
    };
    cx.progress.finish();
    match sent {
        Ok(()) => Ok(()),
        Err(error) => {
            // What only this upload held is garbage at once, not only when it expires. If the
            // server does not hear of it, it expires. Who is in a hurry interrupts again.
            tokio::select! {
                _ = cx.api.abandon(&open.id) => {}
                () = cx.interrupts.reach(2) => {}
            }
            Err(error)
        }
    }
}

async fn send_and_publish(
    cx: &Context,
    open: &OpenUpload,
    work: Vec<Work>,
    logs: Vec<LogWork>,
) -> Result<(), PushError> {
    upload::all(cx, open, work, logs).await?;
    publish(cx, &open.id).await
}

impl PushError {
    /// What was there at the plan is there no more.
    fn is_outrun(&self) -> bool {
        matches!(self, Self::Api(ApiError::Refused { status: StatusCode::CONFLICT, .. }))
    }
}

fn warn_kept(cx: &Context, plan: &PlanRequest, kept: &[KeptPath]) {
    for kept in kept {
        let Some(path) = plan.paths.get(kept.path as usize) else { continue };
        let whole = path.path.absolute(&cx.store.settings().store_dir);
        cx.progress.warn(&format!(
            "{whole} is in the cache with other contents ({}, here {}); it stays as it is",
            kept.nar_hash, path.nar_hash
        ));
    }
}

/// Has the server publish until it is done, or nothing has moved for too long.
async fn publish(cx: &Context, upload: &UploadId) -> Result<(), PushError> {
    let (mut most, mut moved) = (0, Instant::now());
    loop {
        let asked = Instant::now();
        let Commit::Going(progress) = cx.api.commit(upload).await? else { return Ok(()) };
        cx.progress.publishing(progress);
        if progress.published > most {
            (most, moved) = (progress.published, Instant::now());
        }
        if moved.elapsed() >= STUCK_AFTER {
            let CommitProgress { published, total } = progress;
            return Err(PushError::Stuck { published, total });
        }
        // Our server takes some seconds for each answer; one that does not is not hammered.
        tokio::time::sleep(COMMIT_PAUSE.saturating_sub(asked.elapsed())).await;
    }
}
