//! `POST /api/v1/uploads`: what of a closure is missing, and holding all of it until it is there.

use std::collections::HashSet;

use niks3_core::{
    hash::NarHash,
    object_key::{ObjectKey, RandomPart},
    store_path::StorePathHash,
    wire::{OpenUpload, PlanRequest, PlanResponse, PlannedPath, UploadId},
};
use tracing::info;

use super::{
    Caller, UploadError, Uploads,
    abandon::abandon,
    hold::{CHUNK, hold, is_left, kept_path, may_list, may_send, past_claims},
    look::note_lost,
    retry, upstream,
};
use crate::store::{self, PathStatus, PlannedAttachment, Recorded, StoreError};
use crate::trust;

/// Plans a push. `order` lists the plan's paths references first, as [`niks3_core::plan::check`]
/// answers it.
///
/// # Errors
/// See [`UploadError`]. Nothing is kept of a plan that was refused.
pub async fn plan(
    cx: &Uploads,
    caller: &Caller,
    request: &PlanRequest,
    order: &[u32],
) -> Result<PlanResponse, UploadError> {
    let hashes: Vec<StorePathHash> = request.paths.iter().map(|path| path.path.hash()).collect();
    if let Err(distrust) = trust::check(cx).await {
        if !distrust.is_found() {
            return Err(distrust.into());
        }
        look_first(cx, request, &hashes).await?;
    }
    // One look without any lock: mostly everything is there, and then this is nearly all.
    let paths: Vec<&PlannedPath> = request.paths.iter().collect();
    let connection = cx.store.connection().await?;
    let status = store::status(&connection, &paths).await?;
    // Processor time, and not little for a large closure.
    let external = tokio::task::block_in_place(|| {
        upstream::external(request, &cx.store_dir, &cx.upstream_keys)
    });
    let ours = paths.iter().zip(&external).filter(|(_, external)| !**external);
    let attachments: Vec<_> = ours.flat_map(|(path, _)| PlannedAttachment::of(path)).collect();
    let lacking = store::lacking(&connection, &attachments).await?;
    drop(connection);
    if request.dry_run {
        return preview(cx, request, &external, &status).await;
    }
    if is_complete(request, &external, &status)
        && !lacking.contains(&true)
        && retry(|| past_claims(cx, commit_complete(cx, request))).await?
    {
        info!(push.paths = request.paths.len(), "a push found everything in the cache");
        let kept = request.paths.iter().zip(&status).enumerate();
        let kept = kept.filter_map(|(index, (path, status))| kept_path(index, path, status));
        let left =
            status.iter().zip(&external).filter(|(status, signed)| is_left(**signed, status));
        let (kept, external) = (kept.collect(), left.count() as u64);
        return Ok(PlanResponse { kept, external, ..PlanResponse::default() });
    }
    let id = UploadId::from_random(random_bytes());
    let opened = retry(|| open(cx, caller, &id, request.paths.len())).await?;
    match hold(cx, caller, &id, request, &external, order).await {
        Ok(mut response) => {
            info!(
                push.paths = request.paths.len(),
                push.nars = response.nars.len(),
                "opened an upload"
            );
            response.upload = Some(OpenUpload {
                id,
                expires_at: opened,
                metadata_encoding: cx.bucket.metadata_encoding,
                checksum: cx.bucket.checksum,
            });
            Ok(response)
        }
        Err(error) => {
            // What it holds already is let go; if that fails too, it expires.
            let _ = abandon(cx, caller, &id).await;
            Err(error)
        }
    }
}

/// The database may say of anything that it is stored: what this push would take for stored is looked for
/// in the bucket, and what is not there counts as missing from now on.
async fn look_first(
    cx: &Uploads,
    request: &PlanRequest,
    hashes: &[StorePathHash],
) -> Result<(), UploadError> {
    let nars: Vec<NarHash> = request.paths.iter().map(|path| path.nar_hash).collect();
    for (hashes, nars) in hashes.chunks(CHUNK).zip(nars.chunks(CHUNK)) {
        // What is adopted is the first of its contents that was not lost.
        loop {
            let connection = cx.store.connection().await?;
            let mut recorded = store::recorded(&connection, hashes).await?;
            recorded.extend(store::recorded_nars(&connection, nars).await?);
            drop(connection);
            if note_lost(cx, recorded).await?.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// What the plan would find missing now. Changes nothing, so all of it may be otherwise in a moment.
async fn preview(
    cx: &Uploads,
    request: &PlanRequest,
    external: &[bool],
    status: &[PathStatus],
) -> Result<PlanResponse, UploadError> {
    let uncomposed = |status: &PathStatus| status.claimed || status.nar_hash.is_none();
    // A path that has no row yet would get one as another cache's.
    let is_left = |index: usize| {
        let status = &status[index];
        external[index] && (status.id.is_none() || is_left(true, status))
    };
    let mut wanted: Vec<NarHash> = request
        .paths
        .iter()
        .zip(status)
        .enumerate()
        .filter(|(index, (_, status))| uncomposed(status) && !is_left(*index))
        .map(|(_, (path, _))| path.nar_hash)
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let stored = store::recorded_nars(&cx.store.connection().await?, &wanted).await?;
    let mut seen: HashSet<NarHash> = stored.iter().filter_map(Recorded::nar_hash).collect();
    let mut logs_seen = HashSet::new();
    let mut response = PlanResponse::default();
    for (index, (path, status)) in request.paths.iter().zip(status).enumerate() {
        if is_left(index) {
            response.external += 1;
            continue;
        }
        response.kept.extend(kept_path(index, path, status));
        if may_list(path, status) {
            response.listings.push(index as u32);
        }
        if status.lacks_log && logs_seen.insert(store::log_of(path)) {
            response.logs.push(index as u32);
        }
        if uncomposed(status) && seen.insert(path.nar_hash) {
            response.nars.push(index as u32);
        }
    }
    Ok(response)
}

fn is_complete(request: &PlanRequest, external: &[bool], status: &[PathStatus]) -> bool {
    request.paths.iter().zip(external).zip(status).all(|((path, signed), status)| {
        let there = status.published && !may_send(path, status);
        !status.claimed && (there || is_left(*signed, status))
    })
}

/// Commits the roots at once if all of them are published: a published narinfo's whole closure
/// is in the cache, or left to others, so nothing else needs a look. `false`: something went meanwhile.
async fn commit_complete(cx: &Uploads, request: &PlanRequest) -> Result<bool, UploadError> {
    let mut keys: Vec<ObjectKey> =
        request.roots.iter().map(|root| root_key(request, *root)).collect();
    keys.sort();
    keys.dedup();
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    tx.enter_gate().await?;
    let roots = store::roots(&tx, &keys).await?;
    if let Some(claimed) = roots.claimed {
        return Err(StoreError::Claimed(claimed).into());
    }
    if roots.published.len() < keys.len() {
        return Ok(false);
    }
    store::revive(&tx, &roots.condemned).await?;
    store::push_closures(&tx, &roots.published).await?;
    tx.commit().await?;
    Ok(true)
}

fn root_key(request: &PlanRequest, root: u32) -> ObjectKey {
    ObjectKey::NarInfo(request.paths[root as usize].path.hash())
}

async fn open(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    paths: usize,
) -> Result<u64, UploadError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let (uploads, planned) = store::open_uploads(&tx, &caller.0).await?;
    if uploads >= store::MAX_OPEN_UPLOADS {
        return Err(UploadError::TooManyOpen);
    }
    if planned >= store::MAX_PLANNED_PATHS {
        return Err(UploadError::TooManyPlanned);
    }
    let lifetime = cx.idle_time();
    let upload = store::open(&tx, id, &caller.0, lifetime, paths).await?;
    tx.commit().await?;
    Ok(upload.expires_at)
}

/// A random part of a key: nobody else's, and not to be guessed.
pub fn random_part() -> RandomPart {
    RandomPart::from_random(random_bytes())
}

fn random_bytes() -> [u8; 24] {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}
