//! Narinfos in the bucket that cannot be realised are removed: a reader that met one would download half
//! of a closure and fail.
//!
//! Each is claimed first, as the collection does, so that nobody sends it anew before the request that
//! deletes it can no longer be under way, whoever dies. Unlike there its row stays, and what is recorded of it:
//! when what it needs is pushed again, it is published again.

use std::{collections::HashSet, sync::Arc};

use niks3_core::{causes::causes, store_path::StorePathHash};
use tokio::time::Instant;
use tracing::warn;

use super::FsckError;
use crate::{
    s3::{Deletion, Fence, MAX_BATCH},
    store::{self, Claim},
    upload::{self, Uploads},
};

/// Removes narinfos that nobody knows, in their order. Answers how many went.
pub(super) async fn strays(cx: &Uploads, strays: &[StorePathHash]) -> Result<u64, FsckError> {
    let mut removed = 0;
    for chunk in strays.chunks(MAX_BATCH) {
        let ids = upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            // A row first: without one nobody could be kept from sending it at the same time.
            store::insert_narinfo_rows(&tx, chunk, &vec![false; chunk.len()]).await?;
            let ids = store::narinfo_rows(&tx, chunk).await?;
            store::note_candidates(&tx, &ids).await?;
            tx.commit().await?;
            Ok(ids)
        })
        .await?;
        removed += remove(cx, &ids).await?.len() as u64;
    }
    Ok(removed)
}

/// Removes published narinfos that cannot be realised, and all that refer to them, referrers first. Answers
/// how many went.
pub(super) async fn published(cx: &Uploads, broken: &[i64]) -> Result<u64, FsckError> {
    if broken.is_empty() {
        return Ok(0);
    }
    let mut left = upload::retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        Ok(store::referrers(&tx, broken).await?)
    })
    .await?;
    let mut removed = 0;
    // Each turn takes what no published narinfo refers to any more.
    loop {
        let mut gone = HashSet::new();
        for chunk in left.chunks(MAX_BATCH) {
            gone.extend(remove(cx, chunk).await?);
        }
        if gone.is_empty() {
            return Ok(removed);
        }
        removed += gone.len() as u64;
        left.retain(|id| !gone.contains(id));
    }
}

/// Removes what can be removed of these, their realisations first: a reader who met one would look for a path
/// that is not there. Answers which of them went.
async fn remove(cx: &Uploads, narinfos: &[i64]) -> Result<Vec<i64>, FsckError> {
    let connection = cx.store.connection().await?;
    let realised = store::stored_realisations(&connection, narinfos).await?;
    drop(connection);
    let realisations: Vec<i64> = realised.iter().map(|(id, _)| *id).collect();
    let mut gone = HashSet::new();
    for chunk in realisations.chunks(MAX_BATCH) {
        gone.extend(take(cx, chunk).await?);
    }
    let stay = |narinfo: &i64| realised.iter().any(|(id, of)| of == narinfo && !gone.contains(id));
    let free: Vec<i64> = narinfos.iter().copied().filter(|narinfo| !stay(narinfo)).collect();
    take(cx, &free).await
}

/// Claims what can be claimed of these, and deletes it from the bucket. Answers what went.
async fn take(cx: &Uploads, ids: &[i64]) -> Result<Vec<i64>, FsckError> {
    let times = cx.bucket.times;
    let fence = times.writable(times.delete_url(), 0);
    let claimed = upload::retry(|| async {
        let until = Instant::now() + times.delete_url();
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        tx.enter_gate_alone().await?;
        let claim = store::claim_unpublished(&tx, ids, fence).await?;
        tx.commit().await?;
        Ok((Arc::new(claim), until))
    });
    let (claim, until) = claimed.await?;
    let gone = delete(cx, &claim, Fence { signed_at: claim.at, until }).await;
    upload::retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        store::release_claim(&tx, claim.token, &gone).await?;
        Ok(tx.commit().await?)
    })
    .await?;
    Ok(gone)
}

async fn delete(cx: &Uploads, claim: &Claim, fence: Fence) -> Vec<i64> {
    let keys: Vec<_> = claim.objects.iter().map(|(_, key)| key.clone()).collect();
    let mut gone = Vec::with_capacity(keys.len());
    for ((id, key), deletion) in claim.objects.iter().zip(cx.bucket.delete(&keys, fence).await) {
        match deletion {
            Deletion::Gone => gone.push(*id),
            Deletion::Failed(error) | Deletion::Unanswered(error) => {
                warn!(
                    cause = causes(&error).join(": "),
                    "{key} cannot be realised, and may still be there"
                );
            }
        }
    }
    gone
}
