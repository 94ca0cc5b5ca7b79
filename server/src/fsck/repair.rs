//! `--repair`: mends what was found, without losing anything that a closure needs.
//!
//! Repeatable, and of use however early it is cut off: each step leaves the cache a little better than it
//! was. The collection's lock is held, so nothing is deleted meanwhile; pushes go on.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::object_key::{ObjectKey, ObjectKind};
use serde::Serialize;
use tracing::info;

use super::{Finding, FsckError, Kind, Report, adopt, report_with, texts, unpublish};
use crate::{
    store::{self, CollectionLock, Token},
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
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Repaired {
    /// Narinfos in the bucket that the database knows again.
    pub adopted: u64,
    /// Narinfos that were sent again as they had been composed.
    pub sent_again: u64,
    /// Narinfos that could not be realised, and are gone.
    pub removed: u64,
    /// Objects that the bucket has lost, or has otherwise than they were recorded.
    pub lost: u64,
    /// Whether database and bucket are believed to belong together from now on.
    pub trusted: bool,
}

/// Looks and mends until a look finds nothing, or nothing more can be done. With `s3`, database and bucket
/// are trusted afterwards, unless they still differ.
///
/// # Errors
/// When a collection or another repair is under way, or database or bucket fail.
pub async fn repair(cx: &Uploads, s3: bool) -> Result<Report, FsckError> {
    let lock = CollectionLock::try_take(&cx.store).await?.ok_or(FsckError::Busy)?;
    let mut repaired = Repaired::default();
    let mut left = Report::default();
    let distrusted = s3 && trust::check(cx).await.is_err_and(|distrust| distrust.is_found());
    if distrusted {
        repaired.lost += texts::void_others(cx).await? as u64;
    }
    for round in 1..=ROUNDS {
        lock.check().await?;
        // Claims of a collector that died: what they hold cannot be mended.
        upload::lapse_claims(cx).await?;
        left = report_with(cx, s3, distrusted).await?;
        info!(round, findings = left.findings.len(), "looked for what to mend");
        if left.is_clean() {
            break;
        }
        let mut mended = table(cx, &left).await?;
        if s3 {
            mended += bucket(cx, &left, &mut repaired).await?;
        }
        // Only when nothing else could be mended that might still make them whole.
        let broken = ids(&left, &[Kind::ReferenceNotPublished]);
        if mended == 0 {
            let removed = unpublish::published(cx, &broken).await?;
            repaired.removed += removed;
            if removed == 0 {
                break;
            }
        }
    }
    if s3 && of(&left, BUCKET_KINDS).next().is_none() {
        trust::renew(cx).await?;
        repaired.trusted = true;
    }
    left.repaired = Some(repaired);
    Ok(left)
}

/// What keeps database and bucket from being trusted.
const BUCKET_KINDS: &[Kind] = &[
    Kind::ObjectWithoutRow,
    Kind::NotStoredButThere,
    Kind::StoredNotThere,
    Kind::OtherSize,
    Kind::ReferenceNotPublished,
];

fn of<'a>(report: &'a Report, kinds: &'a [Kind]) -> impl Iterator<Item = &'a Finding> {
    report.findings.iter().filter(|finding| kinds.contains(&finding.kind))
}

fn ids(report: &Report, kinds: &[Kind]) -> Vec<i64> {
    let mut ids: Vec<i64> = of(report, kinds).filter_map(|finding| finding.id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What the database says that cannot be. Answers how much was mended.
async fn table(cx: &Uploads, report: &Report) -> Result<usize, FsckError> {
    let dangling =
        ids(report, &[Kind::DanglingReference, Kind::DanglingHolder, Kind::DanglingNarinfo]);
    // What says nothing that could be true: composed anew by the next push, or adopted as the bucket has it. A
    // reference that leads nowhere is a part of what is said.
    let void = ids(report, &[Kind::NotComposed, Kind::NarMissing, Kind::DanglingReference]);
    let needed = ids(report, &[Kind::NeededButCondemned, Kind::Forgotten]);
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
    for chunk in void.chunks(CHUNK) {
        upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            tx.enter_gate_alone().await?;
            store::void_narinfos(&tx, chunk).await?;
            Ok(tx.commit().await?)
        })
        .await?;
    }
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
    Ok(dangling.len() + void.len() + needed.len())
}

/// What the bucket says otherwise than the database. Answers how much was mended.
async fn bucket(
    cx: &Uploads,
    report: &Report,
    repaired: &mut Repaired,
) -> Result<usize, FsckError> {
    let mut mended = 0;
    let gone = ids(report, &[Kind::StoredNotThere, Kind::OtherSize]);
    for chunk in gone.chunks(CHUNK) {
        let connection = cx.store.connection().await?;
        let recorded = store::recorded_by_id(&connection, chunk).await?;
        drop(connection);
        let lost = upload::note_lost(cx, recorded).await?.len();
        repaired.lost += lost as u64;
        mended += lost;
    }
    let (mut strays, mut garbage) = (Vec::new(), Vec::new());
    for finding in of(report, &[Kind::ObjectWithoutRow, Kind::NotStoredButThere]) {
        match finding.key.parse() {
            Ok(ObjectKey::NarInfo(hash)) => strays.push(hash),
            Ok(key) => garbage.push(key),
            Err(_) => {}
        }
    }
    let adopted = adopt::narinfos(cx, &strays).await?;
    repaired.adopted += adopted.narinfos;
    repaired.removed += adopted.removed;
    mended += (adopted.narinfos + adopted.removed) as usize;
    // After the narinfos: what they name has a row by now.
    mended += garbage.len();
    let mut unneeded = Vec::with_capacity(garbage.len());
    for key in garbage {
        let is_attachment = matches!(
            key.kind(),
            ObjectKind::Realisation | ObjectKind::BuildTrace | ObjectKind::DebugInfo
        );
        if !is_attachment || !adopt::attachment(cx, &key).await? {
            unneeded.push(key);
        }
    }
    adopt::garbage(cx, &unneeded).await?;
    let sent_again = send_again(cx).await?;
    repaired.sent_again += sent_again;
    mended += sent_again as usize;
    for finding in of(report, &[Kind::PinFileWithoutRow]) {
        if let Ok(ObjectKey::Pin(name)) = finding.key.parse() {
            mended += usize::from(adopt::pin(cx, &name).await?);
        }
    }
    for finding in of(report, &[Kind::PinFileMissing, Kind::PinFileOther]) {
        if let Ok(ObjectKey::Pin(name)) = finding.key.parse() {
            // The background task of any server writes it.
            let connection = cx.store.connection().await?;
            store::doubt_pin(&connection, &name).await?;
        }
    }
    Ok(mended)
}

/// Sends narinfos again that the bucket has lost and whose text is known, as far as all that they refer to
/// is there.
async fn send_again(cx: &Uploads) -> Result<u64, FsckError> {
    let times = cx.bucket.times;
    let mut sent = 0;
    loop {
        let narinfos = upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            tx.enter_gate().await?;
            let ids = store::republishable(&tx, CHUNK).await?;
            let writable = times.writable(times.own_url(), 0);
            let narinfos = store::take_unpublished(&tx, &ids, writable).await?;
            tx.commit().await?;
            Ok(narinfos)
        })
        .await?;
        if narinfos.is_empty() {
            return Ok(sent);
        }
        let mut stored: Vec<Token> = stream::iter(narinfos)
            .map(|narinfo| async move {
                let body = cx.bucket.encode(&narinfo.key, &narinfo.text);
                cx.bucket.put(&narinfo.key, body, narinfo.fenced_at).await.map(|()| narinfo.token)
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
}
