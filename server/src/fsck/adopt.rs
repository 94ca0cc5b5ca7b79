//! What lies in the bucket and the database does not know: a restored database has forgotten it.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use niks3_core::{
    debug_info,
    narinfo::{FoundError, FoundNarInfo},
    object_key::ObjectKey,
    pin_name::PinName,
    realisation::{OutputId, Realisation},
    store_path::{StorePath, StorePathHash},
};
use tracing::{info, warn};

use super::{FsckError, unpublish};
use crate::{
    store,
    upload::{self, Uploads},
};

/// Narinfos that are read at once.
const READS_AT_ONCE: usize = 32;

/// Narinfos that are taken up in one go, their references in memory: some hundred bytes each.
const MAX_STRAYS: usize = 300_000;

/// The largest lifetime of a URL, and the slack: a server of the database that was lost may have given
/// one away.
const MAX_WRITABLE: Duration = Duration::from_secs(13 * 60 * 60);

/// Rows that one transaction makes.
const CHUNK: usize = 1000;

/// What became of the narinfos.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    pub(super) narinfos: u64,
    /// They could not be realised.
    pub(super) removed: u64,
    /// Not ours: left alone.
    pub(super) foreign: u64,
}

/// Adopts narinfos in the bucket, references first, each after a fresh look at its NAR. Those that cannot
/// be realised are removed.
pub(super) async fn narinfos(cx: &Uploads, strays: &[StorePathHash]) -> Result<Adopted, FsckError> {
    let mut adopted = Adopted::default();
    let read: Vec<_> = stream::iter(strays.iter().copied().take(MAX_STRAYS))
        .map(|hash| async move { (hash, read(cx, hash).await) })
        .buffer_unordered(READS_AT_ONCE)
        .collect()
        .await;
    let mut references: HashMap<StorePathHash, Vec<StorePathHash>> = HashMap::new();
    let mut broken = Vec::new();
    for (hash, found) in read {
        match found? {
            Found::Ours(found, _) => drop(references.insert(hash, found.references)),
            Found::Foreign => adopted.foreign += 1,
            Found::Broken => broken.push(hash),
            Found::Gone => {}
        }
    }
    let mut hopeless: HashSet<StorePathHash> = broken.iter().copied().collect();
    let mut refused = broken;
    for hash in references_first(&references) {
        match adopt(cx, hash, &hopeless).await? {
            Outcome::Adopted => adopted.narinfos += 1,
            Outcome::Refused => {
                hopeless.insert(hash);
                refused.push(hash);
            }
            Outcome::NotNow => {}
        }
    }
    // What refers to others comes first: a reader meets nothing that has lost what it needs.
    refused.reverse();
    adopted.removed = unpublish::strays(cx, &refused).await?;
    info!(?adopted, "took up narinfos that the database did not know");
    Ok(adopted)
}

/// What a narinfo in the bucket is.
enum Found {
    /// One of ours, and its text.
    Ours(Box<FoundNarInfo>, String),
    /// Something else wrote it.
    Foreign,
    /// It is none at all, or another path's.
    Broken,
    /// It has gone meanwhile.
    Gone,
}

/// Whether something else has written a narinfo: it is left alone.
pub(super) async fn is_foreign(cx: &Uploads, hash: StorePathHash) -> Result<bool, FsckError> {
    Ok(matches!(read(cx, hash).await?, Found::Foreign))
}

async fn read(cx: &Uploads, hash: StorePathHash) -> Result<Found, FsckError> {
    let key = ObjectKey::NarInfo(hash);
    let Some(text) = cx.bucket.text(&key).await? else { return Ok(Found::Gone) };
    Ok(match text.as_deref().map(|text| FoundNarInfo::parse(&cx.store_dir, text)) {
        Some(Ok(found)) if found.path.hash() == hash => {
            Found::Ours(Box::new(found), text.unwrap_or_default())
        }
        Some(Err(FoundError::Foreign(_))) => Found::Foreign,
        _ => Found::Broken,
    })
}

/// In the order of references, as far as they are among these. Not recursive: closures are deep.
fn references_first(references: &HashMap<StorePathHash, Vec<StorePathHash>>) -> Vec<StorePathHash> {
    let mut order = Vec::with_capacity(references.len());
    let mut seen: HashMap<StorePathHash, bool> = HashMap::new();
    let mut roots: Vec<_> = references.keys().copied().collect();
    roots.sort_unstable();
    for root in roots {
        let mut path = vec![(root, 0)];
        while let Some((hash, next)) = path.pop() {
            if next == 0 && seen.insert(hash, true).is_some() {
                continue;
            }
            let Some(refs) = references.get(&hash) else { continue };
            match refs.get(next) {
                Some(to) => {
                    path.push((hash, next + 1));
                    if !seen.contains_key(to) {
                        path.push((*to, 0));
                    }
                }
                None => order.push(hash),
            }
        }
    }
    order
}

/// What became of one narinfo.
enum Outcome {
    Adopted,
    /// It cannot be realised.
    Refused,
    /// Somebody is pushing, writing or deleting it at this moment, or it has gone.
    NotNow,
}

/// Adopts one narinfo, if it can be realised at this moment.
async fn adopt(
    cx: &Uploads,
    hash: StorePathHash,
    hopeless: &HashSet<StorePathHash>,
) -> Result<Outcome, FsckError> {
    let Found::Ours(found, text) = read(cx, hash).await? else { return Ok(Outcome::NotNow) };
    let head = cx.bucket.head(&found.nar).await?;
    let there = head.is_some_and(|head| {
        head.encoding.is_none() && head.bytes.is_none_or(|bytes| bytes == found.file_size)
    });
    if !there {
        warn!("{} names {}, which is not in the bucket", ObjectKey::NarInfo(hash), found.nar);
        return Ok(Outcome::Refused);
    }
    let optional = optional(cx, &found).await?;
    let outcome = upload::retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        store::insert_narinfo_rows(&tx, &[hash]).await?;
        tx.enter_gate().await?;
        let adoptable = store::adoptable(&tx, hash, &found.references).await?;
        let Some(adoptable) = adoptable.filter(|one| !one.busy && !one.composed) else {
            return Ok(Outcome::NotNow);
        };
        if adoptable.refs.len() < found.references.len() {
            return Ok(Outcome::Refused);
        }
        store::revive_needed(&tx, &adoptable.refs).await?;
        let (size, file_hash) = (found.file_size, Some(found.file_hash));
        let nar = store::adopt_object(&tx, &found.nar, size, file_hash, None).await?;
        let Some(nar) = nar else { return Ok(Outcome::NotNow) };
        let mut refs = adoptable.refs;
        refs.push(nar);
        for (key, bytes, describes) in &optional {
            let describes = Some(describes.clone());
            refs.extend(store::adopt_object(&tx, key, *bytes, None, describes).await?);
        }
        let nar = (found.nar_hash, nar);
        store::adopt_narinfo(&tx, adoptable.id, &found.path, nar, &text, &refs).await?;
        tx.commit().await?;
        Ok(Outcome::Adopted)
    })
    .await?;
    if matches!(outcome, Outcome::Refused) && all_there(cx, &found.references, hopeless).await? {
        return Ok(Outcome::NotNow);
    }
    Ok(outcome)
}

/// The listing and log of a narinfo that are in the bucket, with their bytes and what they describe.
async fn optional(
    cx: &Uploads,
    found: &FoundNarInfo,
) -> Result<Vec<(ObjectKey, u64, String)>, FsckError> {
    let mut there = Vec::new();
    let listing = (ObjectKey::Listing(found.path.hash()), found.nar_hash.nix32());
    let deriver = found.deriver.clone().filter(StorePath::is_derivation);
    let log = deriver.map(|deriver| (ObjectKey::Log(deriver.clone()), deriver.to_string()));
    for (key, describes) in [Some(listing), log].into_iter().flatten() {
        if let Some(head) = cx.bucket.head(&key).await? {
            there.push((key, head.bytes.unwrap_or(0), describes));
        }
    }
    Ok(there)
}

/// Adopts a realisation or debug info in the bucket, if it is of a path that is known. Answers whether it
/// was.
pub(super) async fn attachment(cx: &Uploads, key: &ObjectKey) -> Result<bool, FsckError> {
    let Some(Some(text)) = cx.bucket.text(key).await? else { return Ok(false) };
    let (path, nar) = match OutputId::of_key(key) {
        Some(id) => (Realisation::parse(&id, &text).ok().map(|found| found.path.hash()), None),
        None => (None, debug_info::archive(&text)),
    };
    Ok(upload::retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        store::insert_optional_rows(&tx, std::slice::from_ref(key)).await?;
        tx.enter_gate().await?;
        let adopted = store::adopt_attachment(&tx, key, path, nar.as_ref(), &text).await?;
        tx.commit().await?;
        Ok(adopted)
    })
    .await?)
}

/// Whether a narinfo's references are all in the bucket, though some cannot be adopted at this moment.
async fn all_there(
    cx: &Uploads,
    references: &[StorePathHash],
    hopeless: &HashSet<StorePathHash>,
) -> Result<bool, FsckError> {
    for reference in references {
        if hopeless.contains(reference)
            || cx.bucket.head(&ObjectKey::NarInfo(*reference)).await?.is_none()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes garbage of NARs and the like that nobody knows: ordinary collection deletes them.
pub(super) async fn garbage(cx: &Uploads, objects: &[ObjectKey]) -> Result<(), FsckError> {
    for chunk in objects.chunks(CHUNK) {
        upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            store::adopt_garbage(&tx, chunk, MAX_WRITABLE + cx.bucket.times.slack).await?;
            Ok(tx.commit().await?)
        })
        .await?;
    }
    Ok(())
}

/// Makes a pin of a pin's file, if it names a closure. Answers whether it does.
pub(super) async fn pin(cx: &Uploads, name: &PinName) -> Result<bool, FsckError> {
    let Some(text) = cx.bucket.text(&ObjectKey::Pin(name.clone())).await? else {
        return Ok(false);
    };
    let path = StorePath::from_absolute(&cx.store_dir, text.unwrap_or_default().trim());
    let Ok(path) = path else { return Ok(false) };
    Ok(upload::retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        tx.enter_gate().await?;
        let adopted = store::adopt_pin(&tx, name, &path).await?;
        tx.commit().await?;
        Ok(adopted)
    })
    .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_before_what_refers_to_them() {
        let hash = |n: char| n.to_string().repeat(32).parse::<StorePathHash>().unwrap();
        let (a, b, c, elsewhere) = (hash('1'), hash('2'), hash('3'), hash('4'));
        // A cycle, which no plan of ours has: it ends all the same.
        let references = HashMap::from([(a, vec![b, elsewhere]), (b, vec![c]), (c, vec![])]);
        assert_eq!(references_first(&references), [c, b, a]);
        let cycle = HashMap::from([(a, vec![b]), (b, vec![a])]);
        assert_eq!(references_first(&cycle).len(), 2);
    }
}
