//! The push flow, top to bottom: closure → plan → pack and send → commit.

mod batch;
pub mod plan;
mod progress;
mod send;
mod upload;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use niks3_core::{
    store_path::StorePath,
    wire::{CommitProgress, KeptPath, PlanRequest, UploadId},
};

use crate::{
    api::{Api, ApiError, Commit},
    nix::{Store, StoreError, ValidPath},
    pack::PackError,
};

pub use progress::{Progress, human_bytes, plural};
pub use send::{SendError, s3_client};

/// How long the server may publish nothing before we give up: far longer than it waits for anything
/// itself.
const STUCK_AFTER: Duration = Duration::from_secs(15 * 60);

/// Between two calls for a commit, at the least.
const COMMIT_PAUSE: Duration = Duration::from_secs(1);

/// What a push works with.
pub struct Context {
    /// The server.
    pub api: Arc<Api>,
    /// The store.
    pub store: Arc<Store>,
    /// For presigned URLs: no token goes there.
    pub http: reqwest::Client,
    /// What the person sees meanwhile.
    pub progress: Arc<Progress>,
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
    /// S3 said that it had them.
    #[error("S3 took {count} objects that the server does not find there, {example} among them")]
    Lost {
        /// How many.
        count: usize,
        /// One of them.
        example: String,
    },
    /// Commits that get nowhere.
    #[error("the server publishes nothing any more: {published} of {total} narinfos are there")]
    Stuck {
        /// Narinfos that are published.
        published: u64,
        /// Narinfos that shall be.
        total: u64,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// A thread of ours.
    #[error("a part of the push ended unexpectedly")]
    Task(#[source] tokio::task::JoinError),
}

/// What a push did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Paths in the closure.
    pub paths: usize,
    /// NARs that were sent.
    pub nars: usize,
    /// Bytes that were sent.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Pushes the closure of `roots`.
///
/// # Errors
/// See [`PushError`]. The upload is given up then.
pub async fn push(cx: &Context, roots: Vec<StorePath>) -> Result<Pushed, PushError> {
    let started = Instant::now();
    let closure = closure(cx, roots.clone()).await?;
    let plan = plan::request(&cx.store.settings().store_dir, &closure, &roots);
    drop(closure);
    let answer = cx.api.plan(&plan).await?;
    warn_kept(cx, &plan, &answer.kept);
    let mut pushed = Pushed { paths: plan.paths.len(), ..Pushed::default() };
    if let Some(open) = &answer.upload {
        let work = plan::work(&plan, &answer);
        drop(plan);
        cx.progress.start(&work);
        let sent = async {
            let sent = upload::all(cx, open, work).await?;
            publish(cx, &open.id).await?;
            Ok(sent)
        };
        let sent: Result<upload::Sent, PushError> = tokio::select! {
            sent = sent => sent,
            // Dropping the work stops it: threads that pack see the flag, requests are cut off.
            _ = tokio::signal::ctrl_c() => Err(PushError::Interrupted),
        };
        cx.progress.finish();
        match sent {
            Ok(sent) => {
                pushed.nars = sent.nars;
                pushed.bytes = sent.bytes;
            }
            Err(error) => {
                // What only this upload held is garbage at once, not only when it expires. If
                // the server does not hear of it, it expires.
                let _ = cx.api.abandon(&open.id).await;
                return Err(error);
            }
        }
    }
    pushed.took = started.elapsed();
    Ok(pushed)
}

async fn closure(cx: &Context, roots: Vec<StorePath>) -> Result<Vec<ValidPath>, PushError> {
    let store = Arc::clone(&cx.store);
    let closure = tokio::task::spawn_blocking(move || store.closure(&roots));
    Ok(closure.await.map_err(PushError::Task)??)
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
