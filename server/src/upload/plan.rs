//! `POST /api/v1/uploads`: what of a closure is missing, and holding all of it until it is there.

use std::collections::HashSet;

use niks3_core::{
    hash::NarHash,
    object_key::{ObjectKey, RandomPart},
    store_path::StorePathHash,
    wire::{KeptPath, OpenUpload, PlanRequest, PlanResponse, PlannedPath, UploadId},
};
use tracing::info;

use super::{Caller, UploadError, Uploads, abandon::abandon, look::note_lost, retry};
use crate::store::{
    self, PathStatus, PlanRow, PlannedAttachment, RELEASE_CHUNK, Recorded, StoreError,
};
use crate::trust;

/// Paths that one transaction takes hold of: no transaction is long.
const CHUNK: usize = RELEASE_CHUNK;

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
    let attachments: Vec<_> = paths.iter().flat_map(|path| PlannedAttachment::of(path)).collect();
    let lacking = store::lacking(&connection, &attachments).await?;
    drop(connection);
    if request.dry_run {
        return preview(cx, request, &status).await;
    }
    if is_complete(request, &status)
        && !lacking.contains(&true)
        && retry(|| past_claims(cx, commit_complete(cx, request))).await?
    {
        info!(push.paths = request.paths.len(), "a push found everything in the cache");
        let kept = request.paths.iter().zip(&status).enumerate();
        let kept = kept.filter_map(|(index, (path, status))| kept_path(index, path, status));
        return Ok(PlanResponse { kept: kept.collect(), ..PlanResponse::default() });
    }
    let id = UploadId::from_random(random_bytes());
    let opened = retry(|| open(cx, caller, &id, request.paths.len())).await?;
    match hold(cx, caller, &id, request, order).await {
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
    status: &[PathStatus],
) -> Result<PlanResponse, UploadError> {
    let uncomposed = |status: &PathStatus| status.claimed || status.nar_hash.is_none();
    let mut wanted: Vec<NarHash> = request
        .paths
        .iter()
        .zip(status)
        .filter(|(_, status)| uncomposed(status))
        .map(|(path, _)| path.nar_hash)
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let stored = store::recorded_nars(&cx.store.connection().await?, &wanted).await?;
    let mut seen: HashSet<NarHash> = stored.iter().filter_map(Recorded::nar_hash).collect();
    let mut logs_seen = HashSet::new();
    let mut response = PlanResponse::default();
    for (index, (path, status)) in request.paths.iter().zip(status).enumerate() {
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

fn is_complete(request: &PlanRequest, status: &[PathStatus]) -> bool {
    request
        .paths
        .iter()
        .zip(status)
        .all(|(path, status)| status.published && !status.claimed && !may_send(path, status))
}

fn kept_path(index: usize, path: &PlannedPath, status: &PathStatus) -> Option<KeptPath> {
    let nar_hash = status.nar_hash.filter(|hash| *hash != path.nar_hash)?;
    Some(KeptPath { path: index as u32, nar_hash })
}

/// Commits the roots at once if all of them are published: a published narinfo's whole closure
/// is in the cache, so nothing else needs a look. `false`: something went meanwhile.
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

/// Takes hold of the whole closure, references first and chunk by chunk, and finds out what is
/// missing. From a chunk's commit on, what is there of it stays.
async fn hold(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    request: &PlanRequest,
    order: &[u32],
) -> Result<PlanResponse, UploadError> {
    let mut response = PlanResponse::default();
    let mut rows = vec![None; request.paths.len()];
    let levels = niks3_core::plan::levels(request, order);
    let mut nars_seen: HashSet<NarHash> = HashSet::new();
    let mut logs_seen = HashSet::new();
    for chunk in order.chunks(CHUNK) {
        let held =
            retry(|| past_claims(cx, hold_chunk(cx, caller, id, request, chunk, &rows, &levels)))
                .await?;
        let adopted: HashSet<NarHash> = held.adopted.into_iter().collect();
        for (index, (row, status)) in chunk.iter().zip(held.paths) {
            let path = &request.paths[*index as usize];
            rows[*index as usize] = Some(row);
            response.kept.extend(kept_path(*index as usize, path, &status));
            if may_list(path, &status) {
                response.listings.push(*index);
            }
            if status.lacks_log && logs_seen.insert(store::log_of(path)) {
                response.logs.push(*index);
            }
            let wanted = status.nar_hash.is_none() && !adopted.contains(&path.nar_hash);
            if wanted && nars_seen.insert(path.nar_hash) {
                response.nars.push(*index);
            }
        }
    }
    let roots: Vec<i64> = request.roots.iter().filter_map(|root| rows[*root as usize]).collect();
    retry(|| set_roots(cx, caller, id, &roots)).await?;
    Ok(response)
}

/// Meeting an object that is being deleted, has claims lapse that nobody can carry out any more: else a
/// collector that died would stand in the way of pushes until the next one.
async fn past_claims<T>(
    cx: &Uploads,
    transaction: impl Future<Output = Result<T, UploadError>>,
) -> Result<T, UploadError> {
    let done = transaction.await;
    if let Err(UploadError::Store(StoreError::Claimed(_))) = &done {
        lapse_claims(cx).await?;
    }
    done
}

/// Lets all claims lapse of which no request can be under way any more.
///
/// # Errors
/// When the database fails.
pub async fn lapse_claims(cx: &Uploads) -> Result<(), UploadError> {
    while retry(|| lapse_chunk(cx)).await? {}
    Ok(())
}

async fn lapse_chunk(cx: &Uploads) -> Result<bool, UploadError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let more = store::lapse_claims(&tx).await?;
    tx.commit().await?;
    Ok(more)
}

/// A listing is of use if it is of the contents that the path has, or will have.
fn may_list(path: &PlannedPath, status: &PathStatus) -> bool {
    status.lacks_listing && status.nar_hash.is_none_or(|hash| hash == path.nar_hash)
}

/// Something optional of it is of use.
fn may_send(path: &PlannedPath, status: &PathStatus) -> bool {
    may_list(path, status) || status.lacks_log
}

struct HeldChunk {
    paths: Vec<(i64, PathStatus)>,
    adopted: Vec<NarHash>,
}

async fn hold_chunk(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    request: &PlanRequest,
    chunk: &[u32],
    rows: &[Option<i64>],
    levels: &[u32],
) -> Result<HeldChunk, UploadError> {
    let planned = |index: &u32| &request.paths[*index as usize];
    let planned_paths: Vec<&PlannedPath> = chunk.iter().map(planned).collect();
    let hashes: Vec<StorePathHash> = planned_paths.iter().map(|path| path.path.hash()).collect();
    let attached = planned_paths.iter().flat_map(|path| PlannedAttachment::of(path));
    let attached: Vec<ObjectKey> = attached.map(|attachment| attachment.key).collect();
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let upload = store::lock(&tx, id, &caller.0, cx.idle_time()).await?.if_open()?;
    store::insert_narinfo_rows(&tx, &hashes).await?;
    store::insert_optional_rows(&tx, &attached).await?;
    tx.enter_gate().await?;
    let paths = store::hold_paths(&tx, upload.number, &planned_paths).await?;
    let uncomposed: Vec<NarHash> = chunk
        .iter()
        .zip(&paths)
        .filter(|(_, (_, status))| status.nar_hash.is_none())
        .map(|(index, _)| planned(index).nar_hash)
        .collect();
    let adopted = store::adopt_nars(&tx, upload.number, &uncomposed).await?;

    // References lie in this chunk or in one before it: both have rows by now.
    let mut known = rows.to_vec();
    for (index, (row, _)) in chunk.iter().zip(&paths) {
        known[*index as usize] = Some(*row);
    }
    let work: Vec<PlanRow> = chunk
        .iter()
        .zip(&paths)
        .filter(|(index, (_, status))| !status.published || may_send(planned(index), status))
        .map(|(index, (row, _))| {
            let level = levels[*index as usize];
            plan_row(request, *index, *row, &known, level)
        })
        .collect();
    store::record_paths(&tx, upload.number, &work).await?;
    let attached = chunk.iter().zip(&paths).flat_map(|(index, (row, _))| {
        let level = levels[*index as usize] as i32;
        PlannedAttachment::of(planned(index)).map(move |attachment| (*row, level, attachment))
    });
    store::hold_attachments(&tx, upload.number, &attached.collect::<Vec<_>>()).await?;
    tx.commit().await?;
    Ok(HeldChunk { paths, adopted })
}

fn plan_row(
    request: &PlanRequest,
    index: u32,
    row: i64,
    known: &[Option<i64>],
    level: u32,
) -> PlanRow {
    fn joined<T: ToString>(items: impl Iterator<Item = T>) -> String {
        items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
    }
    let path = &request.paths[index as usize];
    let others = path.references.iter().filter(|to| **to != index);
    PlanRow {
        id: row,
        store_path: path.path.to_string(),
        nar_hash: path.nar_hash,
        // Checked to fit when the plan was.
        nar_size: path.nar_size as i64,
        deriver: path.deriver.as_ref().map(ToString::to_string),
        ca: path.ca.as_ref().map(ToString::to_string),
        signatures: joined(path.signatures.iter()),
        refs: others.filter_map(|to| known[*to as usize]).collect(),
        ref_paths: joined(path.references.iter().map(|to| &request.paths[*to as usize].path)),
        level: level as i32,
        has_log: store::log_of(path).is_some(),
    }
}

async fn set_roots(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    roots: &[i64],
) -> Result<(), UploadError> {
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    let upload = store::lock(&tx, id, &caller.0, cx.idle_time()).await?.if_open()?;
    store::set_roots(&tx, upload.number, roots).await?;
    Ok(tx.commit().await?)
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
