//! `POST /api/v1/uploads/{id}/urls`: presigned URLs, just in time.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use niks3_core::{
    hash::{BodyMd5, NarHash},
    limits::{MAX_LISTING_BYTES, MAX_OBJECTS_PER_CALL, MAX_PUT_BYTES, put_time},
    object_key::ObjectKey,
    store_path::StorePathHash,
    wire::{ObjectSpec, PresignedUrl, UploadId, UrlAnswer, UrlsRequest, UrlsResponse},
};

use super::{Caller, IDLE_TIME, UploadError, Uploads, plan::random_part, retry};
use crate::{
    s3::Body,
    store::{self, ListingRow, NarRow, OwnObject, Tx},
};

/// Answers what to do about each object: a URL, or why none is needed.
///
/// # Errors
/// See [`UploadError`].
pub async fn urls(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    request: &UrlsRequest,
) -> Result<UrlsResponse, UploadError> {
    check(&request.objects)?;
    let (granted, signed_at) = retry(|| grant(cx, caller, id, &request.objects)).await?;
    // Presigned only now: that these keys may be written is committed.
    let objects = request.objects.iter().map(|object| match granted.get(&name(object)) {
        None => UrlAnswer::Busy,
        Some(Granted::Adopted) => UrlAnswer::Stored,
        Some(Granted::Row(own)) if own.stored => UrlAnswer::Stored,
        Some(Granted::Row(own)) => {
            let (bytes, md5) = body(object);
            let put =
                cx.bucket.presign_put(&own.key, Body { bytes, md5 }, signed_at, cx.url_lifetime);
            let url = PresignedUrl(put.url.into());
            UrlAnswer::Put { key: own.key.clone(), url, headers: put.headers }
        }
    });
    Ok(UrlsResponse { objects: objects.collect() })
}

/// What an object is called before it has a key.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    Nar(NarHash),
    Listing(StorePathHash),
}

fn name(object: &ObjectSpec) -> Name {
    match object {
        ObjectSpec::Nar { nar_hash, .. } => Name::Nar(*nar_hash),
        ObjectSpec::Listing { path, .. } => Name::Listing(*path),
    }
}

fn body(object: &ObjectSpec) -> (u64, BodyMd5) {
    match object {
        ObjectSpec::Nar { bytes, md5, .. } | ObjectSpec::Listing { bytes, md5, .. } => {
            (*bytes, *md5)
        }
    }
}

fn check(objects: &[ObjectSpec]) -> Result<(), UploadError> {
    let (count, limit) = (objects.len(), MAX_OBJECTS_PER_CALL);
    if count > limit {
        return Err(UploadError::TooMany { count, limit });
    }
    let mut names = HashSet::new();
    for object in objects {
        let (what, limit, shown) = match object {
            ObjectSpec::Nar { nar_hash, .. } => ("the NAR", MAX_PUT_BYTES, nar_hash.to_string()),
            ObjectSpec::Listing { path, .. } => {
                ("the listing of", MAX_LISTING_BYTES, path.to_string())
            }
        };
        let (bytes, _) = body(object);
        if bytes > limit {
            return Err(UploadError::TooLarge { what: format!("{what} {shown}"), bytes, limit });
        }
        if !names.insert(name(object)) {
            return Err(UploadError::Twice(shown));
        }
    }
    Ok(())
}

/// In one transaction: whose keys these are, that the upload holds them, and until when somebody
/// may write them.
async fn grant(
    cx: &Uploads,
    caller: &Caller,
    id: &UploadId,
    objects: &[ObjectSpec],
) -> Result<(HashMap<Name, Granted>, f64), UploadError> {
    let slowest = objects.iter().map(|object| put_time(body(object).0)).max().unwrap_or_default();
    let mut connection = cx.store.connection().await?;
    let tx = connection.begin().await?;
    // Beyond every URL: an upload does not expire while somebody can still write for it.
    let lifetime = cx.url_lifetime + slowest + IDLE_TIME;
    let upload = store::lock(&tx, id, &caller.0, lifetime).await?.if_open()?;
    let listings = planned_listings(&tx, upload.number, objects).await?;
    store::insert_listing_rows(&tx, &listings).await?;
    tx.enter_gate().await?;

    let mut granted = grant_nars(&tx, upload.number, objects).await?;
    for own in store::take_listings(&tx, upload.number, &listings).await? {
        if let ObjectKey::Listing(path) = own.key {
            granted.insert(Name::Listing(path), Granted::Row(own));
        }
    }
    let writable = |own: &OwnObject| {
        if own.stored { Duration::ZERO } else { cx.url_lifetime + put_time(own.bytes) }
    };
    let rows: Vec<&OwnObject> = granted.values().filter_map(Granted::row).collect();
    let held: Vec<_> = rows.iter().map(|own| (own.id, writable(own))).collect();
    let signed_at = store::hold_and_write(&tx, upload.number, &held).await?;
    // What another push has sent of a listing is this one's too.
    let adopted: Vec<i64> = rows.iter().filter(|own| own.stored).map(|own| own.id).collect();
    store::link_listings(&tx, upload.number, &adopted).await?;
    tx.commit().await?;
    Ok((granted, signed_at))
}

/// Bodies that one upload may be given keys for of one NAR: packing is deterministic, so there is
/// one, or a few if a client is restarted as another version.
const MAX_BODIES_OF_A_NAR: i64 = 8;

/// What an upload was granted of an object.
enum Granted {
    /// A NAR that another upload has stored; it is held already.
    Adopted,
    /// A key to write, or what is stored under it.
    Row(OwnObject),
}

impl Granted {
    fn row(&self) -> Option<&OwnObject> {
        match self {
            Self::Adopted => None,
            Self::Row(own) => Some(own),
        }
    }
}

async fn grant_nars(
    tx: &Tx<'_>,
    upload: i64,
    objects: &[ObjectSpec],
) -> Result<HashMap<Name, Granted>, UploadError> {
    let mut wanted: HashMap<NarHash, (u64, BodyMd5)> = HashMap::new();
    for object in objects {
        if let ObjectSpec::Nar { nar_hash, bytes, md5 } = object {
            wanted.insert(*nar_hash, (*bytes, *md5));
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
    let bodies: Vec<_> = wanted.iter().map(|(hash, (bytes, md5))| (*hash, *bytes, *md5)).collect();
    for own in store::own_nars(tx, upload, &bodies).await? {
        if let ObjectKey::Nar(hash, _) = own.key {
            wanted.remove(&hash);
            granted.insert(Name::Nar(hash), Granted::Row(own));
        }
    }
    let hashes: Vec<NarHash> = wanted.keys().copied().collect();
    if store::count_own_nars(tx, upload, &hashes).await? >= MAX_BODIES_OF_A_NAR {
        return Err(UploadError::TooManyBodies);
    }
    let new: Vec<NarRow> = wanted
        .into_iter()
        .map(|(nar_hash, (bytes, md5))| NarRow {
            key: ObjectKey::Nar(nar_hash, random_part()),
            nar_hash,
            bytes,
            md5,
        })
        .collect();
    for (id, nar) in store::insert_nars(tx, upload, &new).await?.into_iter().zip(new) {
        let own = OwnObject { id, key: nar.key, bytes: nar.bytes, stored: false };
        granted.insert(Name::Nar(nar.nar_hash), Granted::Row(own));
    }
    Ok(granted)
}

/// The listings that the upload has planned work for, with the contents that its plan says.
async fn planned_listings(
    tx: &Tx<'_>,
    upload: i64,
    objects: &[ObjectSpec],
) -> Result<Vec<ListingRow>, UploadError> {
    let paths: Vec<StorePathHash> = objects
        .iter()
        .filter_map(|object| match object {
            ObjectSpec::Listing { path, .. } => Some(*path),
            ObjectSpec::Nar { .. } => None,
        })
        .collect();
    let planned: HashMap<StorePathHash, NarHash> =
        store::planned_listings(tx, upload, &paths).await?.into_iter().collect();
    let mut rows = Vec::with_capacity(paths.len());
    for object in objects {
        if let ObjectSpec::Listing { path, bytes, md5 } = object {
            let nar_hash =
                *planned.get(path).ok_or_else(|| UploadError::NotOwn(ObjectKey::Listing(*path)))?;
            rows.push(ListingRow { path: *path, nar_hash, bytes: *bytes, md5: *md5 });
        }
    }
    Ok(rows)
}
