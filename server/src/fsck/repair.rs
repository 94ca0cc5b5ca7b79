//! `--repair`: mends what was found, without losing anything that a closure needs.
//!
//! Repeatable, and of use however early it is cut off: each step leaves the cache a little better than it
//! was. The collection's lock is held, so nothing is deleted meanwhile; pushes go on.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::object_key::{ObjectKey, ObjectKind};
use serde::Serialize;
use tracing::info;

use super::{Finding, FsckError, Kind, Report, adopt, report, unpublish};
use crate::{
    store::{self, CollectionLock},
    trust,
    upload::{self, Uploads},
};

/// Rows that one transaction mends.
const CHUNK: usize = 500;

/// Narinfos that are sent at once.
const PUTS_AT_ONCE: usize = 32;

/// Rounds of looking and mending: what one mends may show what the next has to.
const ROUNDS: usize = 6;

/// What was mended.
#[derive(Debug, Default, Serialize)]
pub struct Repaired {
    /// Narinfos in the bucket that the database knows again.
    pub adopted: u64,
    /// Narinfos that were sent again as they had been composed.
    pub sent_again: u64,
    /// Narinfos that could not be realised, and are gone.
    pub removed: u64,
    /// Objects that the bucket has lost, or has otherwise than they were.
    pub lost: u64,
    /// What is left to find afterwards.
    pub left: Report,
}

/// Looks and mends until a look finds nothing, or nothing more can be done. With `s3`, database and bucket
/// are trusted afterwards.
///
/// # Errors
/// When a collection or another repair is under way, or database or bucket fail.
pub async fn repair(cx: &Uploads, s3: bool) -> Result<Repaired, FsckError> {
    let lock = CollectionLock::try_take(&cx.store).await?.ok_or(FsckError::Busy)?;
    let mut repaired = Repaired::default();
    for round in 1..=ROUNDS {
        lock.check().await?;
        let began = store::clock(&cx.store.connection().await?).await?;
        repaired.left = report(cx, s3).await?;
        info!(round, findings = repaired.left.findings.len(), "looked for what to mend");
        if repaired.left.findings.is_empty() {
            break;
        }
        table(cx, &repaired.left).await?;
        if s3 {
            bucket(cx, began, &mut repaired).await?;
        }
        let broken = ids(&repaired.left, &[
            Kind::NotComposed,
            Kind::NarMissing,
            Kind::ReferenceNotPublished,
        ]);
        // Only when nothing that was found in the bucket could still make them whole.
        if !s3 || round > 1 {
            repaired.removed += unpublish::published(cx, &broken).await?;
        }
    }
    if s3 {
        trust::renew(cx).await?;
    }
    Ok(repaired)
}

fn of<'a>(report: &'a Report, kinds: &'a [Kind]) -> impl Iterator<Item = &'a Finding> {
    report.findings.iter().filter(|finding| kinds.contains(&finding.kind))
}

fn ids(report: &Report, kinds: &[Kind]) -> Vec<i64> {
    let mut ids: Vec<i64> = of(report, kinds).filter_map(|finding| finding.id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What the database says that cannot be.
async fn table(cx: &Uploads, report: &Report) -> Result<(), FsckError> {
    let dangling =
        ids(report, &[Kind::DanglingReference, Kind::DanglingHolder, Kind::DanglingNarinfo]);
    for chunk in dangling.chunks(CHUNK) {
        upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            tx.enter_gate_alone().await?;
            store::drop_dangling(&tx, chunk).await?;
            Ok(tx.commit().await?)
        })
        .await?;
    }
    // Claims of a collector that died first: what they hold cannot be revived.
    upload::lapse_claims(cx).await?;
    let needed = ids(report, &[Kind::NeededButCondemned, Kind::Forgotten]);
    for chunk in needed.chunks(CHUNK) {
        upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            tx.enter_gate().await?;
            // What was needed when we looked may be garbage by now: the collection asks.
            store::revive_needed(&tx, chunk).await?;
            store::note_candidates(&tx, chunk).await?;
            Ok(tx.commit().await?)
        })
        .await?;
    }
    Ok(())
}

/// What the bucket says otherwise than the database.
async fn bucket(cx: &Uploads, began: f64, repaired: &mut Repaired) -> Result<(), FsckError> {
    let report = &repaired.left;
    let gone = ids(report, &[Kind::StoredNotThere, Kind::OtherSize]);
    let mut unsent = Vec::new();
    for chunk in gone.chunks(CHUNK) {
        let unstored = upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            tx.enter_gate_alone().await?;
            let unstored = store::unstore(&tx, chunk, began).await?;
            store::note_candidates(&tx, &unstored).await?;
            tx.commit().await?;
            Ok(unstored)
        })
        .await?;
        repaired.lost += unstored.len() as u64;
        unsent.extend(unstored);
    }
    repaired.sent_again += send_again(cx, &unsent).await?;

    let mut strays = Vec::new();
    let mut garbage = Vec::new();
    for finding in of(report, &[Kind::ObjectWithoutRow, Kind::NotStoredButThere]) {
        match finding.key.parse() {
            Ok(ObjectKey::NarInfo(hash)) => strays.push(hash),
            Ok(key) if matches!(key.kind(), ObjectKind::Nar | ObjectKind::Listing) => {
                garbage.push((key, finding.bytes.unwrap_or(0)));
            }
            _ => {}
        }
    }
    let adopted = adopt::narinfos(cx, &strays).await?;
    repaired.adopted += adopted.narinfos;
    repaired.removed += adopted.removed;
    // After the narinfos: what they name has a row by now.
    adopt::garbage(cx, &garbage).await?;
    for finding in of(report, &[Kind::PinFileWithoutRow]) {
        if let Ok(ObjectKey::Pin(name)) = finding.key.parse() {
            adopt::pin(cx, &name).await?;
        }
    }
    Ok(())
}

/// Sends narinfos again that the bucket has lost and whose text is known.
async fn send_again(cx: &Uploads, unsent: &[i64]) -> Result<u64, FsckError> {
    let times = cx.bucket.times;
    let mut sent = 0;
    for chunk in unsent.chunks(CHUNK) {
        let narinfos = upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            tx.enter_gate().await?;
            let ids = store::republishable(&tx, chunk).await?;
            let writable = times.writable(times.own_url(), 0);
            let narinfos = store::take_unpublished(&tx, &ids, writable).await?;
            tx.commit().await?;
            Ok(narinfos)
        })
        .await?;
        let mut stored: Vec<i64> = stream::iter(narinfos)
            .map(|narinfo| async move {
                let body = cx.bucket.encode(&narinfo.narinfo);
                cx.bucket.put(&narinfo.key, body, narinfo.fenced_at).await.map(|()| narinfo.id)
            })
            .buffer_unordered(PUTS_AT_ONCE)
            .try_collect()
            .await?;
        stored.sort_unstable();
        sent += upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            tx.enter_gate().await?;
            let stored = store::mark_stored(&tx, &stored).await?;
            tx.commit().await?;
            Ok(stored.len() as u64)
        })
        .await?;
    }
    Ok(sent)
}
