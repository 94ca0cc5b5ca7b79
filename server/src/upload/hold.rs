//! Takes hold of a planned closure, and finds out what of it is missing.

use std::collections::HashSet;

use niks3_core::{
    hash::NarHash,
    object_key::ObjectKey,
    store_path::StorePathHash,
    wire::{KeptPath, PlanRequest, PlanResponse, PlannedPath, UploadId},
};

use super::{Caller, UploadError, Uploads, retry};
use crate::store::{self, PathStatus, PlanRow, PlannedAttachment, RELEASE_CHUNK, StoreError};

/// Paths that one transaction takes hold of: no transaction is long.
pub(super) const CHUNK: usize = RELEASE_CHUNK;

/// Takes hold of the whole closure, references first and chunk by chunk, and finds out what is
/// missing. From a chunk's commit on, what is there of it stays.
pub(super) async fn hold(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    request: &PlanRequest,
    external: &[bool],
    order: &[u32],
) -> Result<PlanResponse, UploadError> {
    let mut response = PlanResponse::default();
    let mut rows = vec![None; request.paths.len()];
    let levels = niks3_core::plan::levels(request, order);
    let mut nars_seen: HashSet<NarHash> = HashSet::new();
    let mut logs_seen = HashSet::new();
    for chunk in order.chunks(CHUNK) {
        let hold = Hold { caller, id, request, external, levels: &levels };
        let held = retry(|| past_claims(cx, hold.chunk(cx, chunk, &rows))).await?;
        let adopted: HashSet<NarHash> = held.adopted.into_iter().collect();
        for (index, (row, status)) in chunk.iter().zip(held.paths) {
            let path = &request.paths[*index as usize];
            rows[*index as usize] = Some(row);
            if is_left(external[*index as usize], &status) {
                response.external += 1;
                continue;
            }
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

struct HeldChunk {
    paths: Vec<(i64, PathStatus)>,
    adopted: Vec<NarHash>,
}

/// What is held of, the same for all chunks.
struct Hold<'a> {
    caller: &'a Caller,
    id: &'a UploadId,
    request: &'a PlanRequest,
    external: &'a [bool],
    levels: &'a [u32],
}

impl Hold<'_> {
    /// Takes hold of a chunk; `rows` are those of the chunks before it.
    async fn chunk(
        &self,
        cx: &Uploads,
        chunk: &[u32],
        rows: &[Option<i64>],
    ) -> Result<HeldChunk, UploadError> {
        let planned = |index: &u32| &self.request.paths[*index as usize];
        let paths: Vec<&PlannedPath> = chunk.iter().map(planned).collect();
        let hashes: Vec<StorePathHash> = paths.iter().map(|path| path.path.hash()).collect();
        let external: Vec<bool> =
            chunk.iter().map(|index| self.external[*index as usize]).collect();
        let ours = paths.iter().zip(&external).filter(|(_, external)| !**external);
        let attached = ours.flat_map(|(path, _)| PlannedAttachment::of(path));
        let attached: Vec<ObjectKey> = attached.map(|attachment| attachment.key).collect();

        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        let upload = store::lock(&tx, self.id, &self.caller.0, cx.idle_time()).await?.if_open()?;
        store::insert_narinfo_rows(&tx, &hashes, &external).await?;
        store::insert_optional_rows(&tx, &attached).await?;
        tx.enter_gate().await?;
        let paths = store::hold_paths(&tx, upload.number, &paths).await?;
        let ours: Vec<(u32, i64, &PathStatus)> = chunk
            .iter()
            .zip(&paths)
            .filter(|(index, (_, status))| !is_left(self.external[**index as usize], status))
            .map(|(index, (row, status))| (*index, *row, status))
            .collect();
        let uncomposed = ours.iter().filter(|(.., status)| status.nar_hash.is_none());
        let uncomposed: Vec<NarHash> =
            uncomposed.map(|(index, ..)| planned(index).nar_hash).collect();
        let adopted = store::adopt_nars(&tx, upload.number, &uncomposed).await?;

        // References lie in this chunk or in one before it: both have rows by now.
        let mut known = rows.to_vec();
        for (index, (row, _)) in chunk.iter().zip(&paths) {
            known[*index as usize] = Some(*row);
        }
        let work: Vec<PlanRow> = ours
            .iter()
            .filter(|(index, _, status)| !status.published || may_send(planned(index), status))
            .map(|(index, row, _)| {
                let level = self.levels[*index as usize];
                plan_row(self.request, *index, *row, &known, level)
            })
            .collect();
        store::record_paths(&tx, upload.number, &work).await?;
        // Those of paths that are signed by another cache have no rows, though one that this cache has may
        // be among them.
        let ours = ours.iter().filter(|(index, ..)| !self.external[*index as usize]);
        let attached = ours.flat_map(|(index, row, _)| {
            let (row, level) = (*row, self.levels[*index as usize] as i32);
            PlannedAttachment::of(planned(index)).map(move |attachment| (row, level, attachment))
        });
        store::hold_attachments(&tx, upload.number, &attached.collect::<Vec<_>>()).await?;
        tx.commit().await?;
        Ok(HeldChunk { paths, adopted })
    }
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

/// A path that another cache has signed is left to it, unless this cache has it.
pub(super) fn is_left(signed: bool, status: &PathStatus) -> bool {
    signed && status.external && !status.published
}

pub(super) fn kept_path(index: usize, path: &PlannedPath, status: &PathStatus) -> Option<KeptPath> {
    let nar_hash = status.nar_hash.filter(|hash| *hash != path.nar_hash)?;
    Some(KeptPath { path: index as u32, nar_hash })
}

/// A listing is of use if it is of the contents that the path has, or will have.
pub(super) fn may_list(path: &PlannedPath, status: &PathStatus) -> bool {
    status.lacks_listing && status.nar_hash.is_none_or(|hash| hash == path.nar_hash)
}

/// Something optional of it is of use.
pub(super) fn may_send(path: &PlannedPath, status: &PathStatus) -> bool {
    may_list(path, status) || status.lacks_log
}

/// Meeting an object that is being deleted, has claims lapse that nobody can carry out any more: else a
/// collector that died would stand in the way of pushes until the next one.
pub(super) async fn past_claims<T>(
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
