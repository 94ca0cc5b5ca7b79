//! Narinfos in the bucket that cannot be realised are removed: a reader that met one would download half
//! of a closure and fail.
//!
//! Each is fenced in the database first, so that nobody composes it anew and sends it before the request
//! that deletes it can no longer be under way. Those that others refer to go after these.

use std::collections::{HashMap, HashSet};

use niks3_core::{causes::causes, object_key::ObjectKey, store_path::StorePathHash};
use tokio::time::Instant;
use tracing::warn;

use super::FsckError;
use crate::{
    s3::{Deletion, Fence, MAX_BATCH},
    store,
    upload::{self, Uploads},
};

/// Removes narinfos that nobody knows. Answers how many went.
pub(super) async fn strays(
    cx: &Uploads,
    strays: &HashMap<StorePathHash, Vec<StorePathHash>>,
) -> Result<u64, FsckError> {
    let mut removed = 0;
    for level in referrers_first(strays) {
        for chunk in level.chunks(MAX_BATCH) {
            removed += remove(cx, chunk).await?;
        }
    }
    Ok(removed)
}

async fn remove(cx: &Uploads, strays: &[StorePathHash]) -> Result<u64, FsckError> {
    let until = Instant::now() + cx.bucket.times.delete_url();
    let at = upload::retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        store::insert_narinfo_rows(&tx, strays).await?;
        tx.enter_gate_alone().await?;
        let ids = store::take_strays(&tx, strays).await?;
        let at = store::void_narinfos(&tx, &ids, fence(cx)).await?;
        tx.commit().await?;
        Ok((ids.len() == strays.len()).then_some(at))
    })
    .await?;
    // Somebody has taken one of them up meanwhile: the next look decides anew.
    let Some(at) = at else { return Ok(0) };
    let keys: Vec<ObjectKey> = strays.iter().map(|hash| ObjectKey::NarInfo(*hash)).collect();
    delete(cx, &keys, Fence { signed_at: at, until }).await
}

/// Voids and removes published narinfos that cannot be realised, and all that refer to them. Answers
/// how many went.
pub(super) async fn published(cx: &Uploads, broken: &[i64]) -> Result<u64, FsckError> {
    if broken.is_empty() {
        return Ok(0);
    }
    let until = Instant::now() + cx.bucket.times.delete_url();
    let (all, at) = upload::retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        tx.enter_gate_alone().await?;
        let all = store::unrealisable(&tx, broken).await?;
        let ids: Vec<i64> = all.iter().map(|narinfo| narinfo.id).collect();
        let at = store::void_narinfos(&tx, &ids, fence(cx)).await?;
        tx.commit().await?;
        Ok((all, at))
    })
    .await?;
    let keys: HashMap<i64, ObjectKey> =
        all.iter().map(|narinfo| (narinfo.id, narinfo.key.clone())).collect();
    let refs = all.into_iter().map(|narinfo| (narinfo.id, narinfo.refs)).collect();
    let mut removed = 0;
    for level in referrers_first(&refs) {
        let level: Vec<ObjectKey> = level.iter().filter_map(|id| keys.get(id).cloned()).collect();
        for chunk in level.chunks(MAX_BATCH) {
            removed += delete(cx, chunk, Fence { signed_at: at, until }).await?;
        }
    }
    Ok(removed)
}

/// How long after it was voided nobody may write a narinfo.
fn fence(cx: &Uploads) -> std::time::Duration {
    let times = cx.bucket.times;
    times.writable(times.delete_url(), 0)
}

async fn delete(cx: &Uploads, keys: &[ObjectKey], fence: Fence) -> Result<u64, FsckError> {
    let mut gone = 0;
    for (key, deletion) in keys.iter().zip(cx.bucket.delete(keys, fence).await) {
        match deletion {
            Deletion::Gone => gone += 1,
            Deletion::Failed(error) | Deletion::Unanswered(error) => {
                warn!(cause = causes(&error).join(": "), "{key} cannot be realised, and still is there");
            }
        }
    }
    Ok(gone)
}

/// In levels: whoever refers to another of these comes before it. What is left of a cycle comes last.
fn referrers_first<T: Copy + Eq + Ord + std::hash::Hash>(refs: &HashMap<T, Vec<T>>) -> Vec<Vec<T>> {
    let mut left: HashSet<T> = refs.keys().copied().collect();
    let mut levels = Vec::new();
    while !left.is_empty() {
        let referred: HashSet<T> =
            left.iter().flat_map(|one| &refs[one]).copied().filter(|to| left.contains(to)).collect();
        let mut level: Vec<T> = left.difference(&referred).copied().collect();
        if level.is_empty() {
            level = left.iter().copied().collect();
        }
        level.sort_unstable();
        level.iter().for_each(|one| drop(left.remove(one)));
        levels.push(level);
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_refers_goes_first() {
        let refs = HashMap::from([(1, vec![2, 3]), (2, vec![3]), (3, vec![9]), (4, vec![])]);
        assert_eq!(referrers_first(&refs), [vec![1, 4], vec![2], vec![3]]);
        let cycle = HashMap::from([(1, vec![2]), (2, vec![1])]);
        assert_eq!(referrers_first(&cycle), [vec![1, 2]]);
    }
}
