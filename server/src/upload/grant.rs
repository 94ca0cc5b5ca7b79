//! One transaction of a call for URLs: whose keys these are, that the upload holds them, and until
//! when somebody may write them.

use std::{collections::HashMap, time::Duration};

use niks3_core::{
    hash::{BodyChecksum, NarHash},
    object_key::ObjectKey,
    store_path::StorePathHash,
    wire::{ObjectSpec, UploadId},
};

use super::{Caller, UploadError, Uploads, plan::random_part};
use crate::{
    s3::Times,
    store::{self, Multipart, NarRow, OptionalRow, OwnObject, PlannedOptional, Tx},
};

/// Bodies that one upload may be given keys for of one NAR: packing is deterministic, so there is
/// one, or a few if a client is restarted as another version or packs a large NAR again.
const MAX_BODIES_OF_A_NAR: i64 = 8;

/// The same with those multipart uploads that were never used: S3 did not open them, or nobody heard
/// that it did.
const MAX_KEYS_OF_A_NAR: i64 = 64;

/// What an object is called before it has a key. Parts have one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Name {
    Nar(NarHash),
    Listing(StorePathHash),
    Log(StorePathHash),
    Part(ObjectKey, u16),
}

impl Name {
    pub(super) fn of(object: &ObjectSpec) -> Self {
        match object {
            ObjectSpec::Nar { nar_hash, .. } | ObjectSpec::LargeNar { nar_hash } => {
                Self::Nar(*nar_hash)
            }
            ObjectSpec::Listing { path, .. } => Self::Listing(*path),
            ObjectSpec::Log { path, .. } => Self::Log(*path),
            ObjectSpec::Part { key, number, .. } => Self::Part(key.clone(), *number),
        }
    }
}

/// What an upload was granted of an object.
pub(super) enum Granted {
    /// A NAR that another upload has stored; it is held already.
    Adopted,
    /// A key to write, or what is stored under it.
    Row(OwnObject),
    /// A key for a multipart upload that S3 is yet to open.
    ToOpen(Multipart),
    /// One that it has opened.
    Open(Multipart),
    /// A part of an open one may be written.
    Part(Multipart),
}

impl Granted {
    /// Its row, and for how long somebody may write it.
    fn held(&self, object: &ObjectSpec, times: Times) -> Option<(i64, Duration)> {
        let lifetime = times.url_lifetime;
        match self {
            Self::Adopted => None,
            Self::Row(own) if own.stored => Some((own.id, Duration::ZERO)),
            Self::Row(own) => Some((own.id, times.writable(lifetime, own.bytes))),
            // Opening is no writing, but a request under way: until it has ended one way or the
            // other, S3 may come to have something open that has to be looked for.
            Self::ToOpen(multipart) => Some((multipart.id, times.writable(times.own_url(), 0))),
            Self::Open(multipart) => Some((multipart.id, Duration::ZERO)),
            Self::Part(multipart) => Some((multipart.id, times.writable(lifetime, bytes(object)))),
        }
    }
}

/// Bytes of the body that an object's URL would be for.
pub(super) fn bytes(object: &ObjectSpec) -> u64 {
    match object {
        ObjectSpec::Nar { bytes, .. }
        | ObjectSpec::Listing { bytes, .. }
        | ObjectSpec::Log { bytes, .. }
        | ObjectSpec::Part { bytes, .. } => *bytes,
        ObjectSpec::LargeNar { .. } => 0,
    }
}

/// Grants what can be granted of `objects`, and answers the database's time that the URLs are to be
/// signed with.
pub(super) async fn grant(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    objects: &[ObjectSpec],
) -> Result<(HashMap<Name, Granted>, f64), UploadError> {
    let times = cx.bucket.times;
    let largest = objects.iter().map(bytes).max().unwrap_or_default();
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    // Beyond every URL: an upload does not expire while somebody can still write for it.
    let lifetime = cx.idle_time() + times.writable(Duration::ZERO, largest);
    let upload = store::lock(&tx, id, &caller.0, lifetime).await?.if_open()?;
    let optional = planned_optional(&tx, upload.number, objects).await?;
    let (names, optional): (Vec<Name>, Vec<OptionalRow>) = optional.into_iter().unzip();
    let keys: Vec<ObjectKey> = optional.iter().map(|row| row.key.clone()).collect();
    store::insert_optional_rows(&tx, &keys).await?;
    tx.enter_gate().await?;

    let mut granted = grant_nars(&tx, upload.number, objects).await?;
    granted.extend(grant_parts(&tx, upload.number, objects).await?);
    for own in store::take_optional(&tx, upload.number, &optional).await? {
        // Once: of one log only one body can be sent.
        if let Some(n) = keys.iter().position(|key| *key == own.key) {
            granted.insert(names[n].clone(), Granted::Row(own));
        }
    }
    let held =
        objects.iter().filter_map(|object| granted.get(&Name::of(object))?.held(object, times));
    let signed_at = store::hold_and_write(&tx, upload.number, &longest(held)).await?;
    // What another push has sent of a listing or log is this one's too.
    let adopted = granted.values().filter_map(|granted| match granted {
        Granted::Row(own) if own.stored => Some(own.id),
        _ => None,
    });
    store::link_optional(&tx, upload.number, &adopted.collect::<Vec<_>>()).await?;
    tx.commit().await?;
    Ok((granted, signed_at))
}

/// Each row once: many parts of one key may be asked for together.
fn longest(held: impl Iterator<Item = (i64, Duration)>) -> Vec<(i64, Duration)> {
    let mut longest: HashMap<i64, Duration> = HashMap::new();
    for (id, time) in held {
        let known = longest.entry(id).or_default();
        *known = time.max(*known);
    }
    longest.into_iter().collect()
}

/// How a NAR is to be sent.
#[derive(Clone, Copy)]
enum Way {
    Put { bytes: u64, checksum: BodyChecksum },
    Parts,
}

async fn grant_nars(
    tx: &Tx<'_>,
    upload: i64,
    objects: &[ObjectSpec],
) -> Result<HashMap<Name, Granted>, UploadError> {
    let mut wanted: HashMap<NarHash, Way> = HashMap::new();
    for object in objects {
        match object {
            ObjectSpec::Nar { nar_hash, bytes, checksum } => {
                let way = Way::Put { bytes: *bytes, checksum: *checksum };
                wanted.insert(*nar_hash, way);
            }
            ObjectSpec::LargeNar { nar_hash } => {
                wanted.insert(*nar_hash, Way::Parts);
            }
            ObjectSpec::Listing { .. } | ObjectSpec::Log { .. } | ObjectSpec::Part { .. } => {}
        }
    }
    let mut granted = HashMap::new();
    if wanted.is_empty() {
        return Ok(granted);
    }
    let hashes: Vec<NarHash> = wanted.keys().copied().collect();
    let planned = store::planned_nars(tx, upload, &hashes).await?;
    if let Some(stray) = hashes.iter().find(|hash| !planned.contains(hash)) {
        return Err(UploadError::NotPlanned(stray.to_string()));
    }
    for hash in store::adopt_nars(tx, upload, &hashes).await? {
        wanted.remove(&hash);
        granted.insert(Name::Nar(hash), Granted::Adopted);
    }
    let bodies: Vec<_> = wanted
        .iter()
        .filter_map(|(hash, way)| match way {
            Way::Put { bytes, checksum } => Some((*hash, *bytes, *checksum)),
            Way::Parts => None,
        })
        .collect();
    for own in store::own_nars(tx, upload, &bodies).await? {
        if let ObjectKey::Nar(hash, _) = own.key {
            wanted.remove(&hash);
            granted.insert(Name::Nar(hash), Granted::Row(own));
        }
    }
    let large = wanted.iter().filter(|(_, way)| matches!(way, Way::Parts));
    let large: Vec<NarHash> = large.map(|(hash, _)| *hash).collect();
    for open in store::unused_multiparts(tx, upload, &large).await? {
        if let ObjectKey::Nar(hash, _) = open.key {
            wanted.remove(&hash);
            granted.insert(Name::Nar(hash), Granted::Open(open));
        }
    }
    let hashes: Vec<NarHash> = wanted.keys().copied().collect();
    let (bodies, keys) = store::count_own_nars(tx, upload, &hashes).await?;
    if bodies >= MAX_BODIES_OF_A_NAR || keys >= MAX_KEYS_OF_A_NAR {
        return Err(UploadError::TooManyBodies);
    }
    granted.extend(insert_nars(tx, upload, wanted).await?);
    Ok(granted)
}

async fn insert_nars(
    tx: &Tx<'_>,
    upload: i64,
    wanted: HashMap<NarHash, Way>,
) -> Result<HashMap<Name, Granted>, UploadError> {
    let (mut whole, mut large) = (Vec::new(), Vec::new());
    for (nar_hash, way) in wanted {
        let key = ObjectKey::Nar(nar_hash, random_part());
        match way {
            Way::Put { bytes, checksum } => whole.push(NarRow { key, nar_hash, bytes, checksum }),
            Way::Parts => large.push((nar_hash, key)),
        }
    }
    let mut granted = HashMap::new();
    if !whole.is_empty() {
        for (id, nar) in store::insert_nars(tx, upload, &whole).await?.into_iter().zip(whole) {
            let own = OwnObject { id, key: nar.key, bytes: nar.bytes, stored: false };
            granted.insert(Name::Nar(nar.nar_hash), Granted::Row(own));
        }
    }
    if !large.is_empty() {
        let keys: Vec<ObjectKey> = large.iter().map(|(_, key)| key.clone()).collect();
        let ids = store::insert_large_nars(tx, upload, &keys).await?;
        for (id, (nar_hash, key)) in ids.into_iter().zip(large) {
            let multipart = Multipart { id, key, s3_id: None };
            granted.insert(Name::Nar(nar_hash), Granted::ToOpen(multipart));
        }
    }
    Ok(granted)
}

async fn grant_parts(
    tx: &Tx<'_>,
    upload: i64,
    objects: &[ObjectSpec],
) -> Result<HashMap<Name, Granted>, UploadError> {
    let parts = objects.iter().filter_map(|object| match object {
        ObjectSpec::Part { key, number, .. } => Some((key, *number)),
        _ => None,
    });
    let mut keys: Vec<ObjectKey> = parts.clone().map(|(key, _)| key.clone()).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    keys.sort();
    keys.dedup();
    let open = store::own_multiparts(tx, upload, &keys).await?;
    let open: HashMap<&ObjectKey, &Multipart> = open.iter().map(|own| (&own.key, own)).collect();
    let granted = parts.filter_map(|(key, number)| {
        let multipart = Granted::Part((*open.get(key)?).clone());
        Some((Name::Part(key.clone(), number), multipart))
    });
    Ok(granted.collect())
}

/// The listings and logs that the upload has planned work for, as its plan says.
async fn planned_optional(
    tx: &Tx<'_>,
    upload: i64,
    objects: &[ObjectSpec],
) -> Result<Vec<(Name, OptionalRow)>, UploadError> {
    let paths: Vec<StorePathHash> = objects
        .iter()
        .filter_map(|object| match object {
            ObjectSpec::Listing { path, .. } | ObjectSpec::Log { path, .. } => Some(*path),
            _ => None,
        })
        .collect();
    let planned = store::planned_optional(tx, upload, &paths).await?;
    let planned: HashMap<StorePathHash, PlannedOptional> =
        planned.into_iter().map(|planned| (planned.path, planned)).collect();
    let mut rows = Vec::with_capacity(paths.len());
    for object in objects {
        let (path, bytes, checksum) = match object {
            ObjectSpec::Listing { path, bytes, checksum }
            | ObjectSpec::Log { path, bytes, checksum } => (path, *bytes, *checksum),
            _ => continue,
        };
        let planned = planned.get(path);
        let (key, describes) = match (object, planned) {
            (ObjectSpec::Log { .. }, planned) => {
                let derivation = planned.and_then(|planned| planned.log_of.clone());
                let derivation =
                    derivation.ok_or_else(|| UploadError::NotPlannedLog(path.to_string()))?;
                (ObjectKey::Log(derivation.clone()), derivation.to_string())
            }
            (_, Some(planned)) => (ObjectKey::Listing(*path), planned.nar_hash.nix32()),
            (_, None) => return Err(UploadError::NotOwn(ObjectKey::Listing(*path))),
        };
        rows.push((Name::of(object), OptionalRow { key, describes, bytes, checksum }));
    }
    Ok(rows)
}
