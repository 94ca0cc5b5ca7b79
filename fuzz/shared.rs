//! What client and server read from outside: fed with any bytes, it never panics, and what it takes
//! means one thing. The fuzz targets and `tests/parsers.rs` share this.

use std::{fmt::Debug, fmt::Display, str::FromStr};

use niks3_core::{
    debug_info::{self, BuildId},
    duration,
    hash::{BodyMd5, DerivationHash, FileHash, NarHash},
    narinfo::{ContentAddress, FoundNarInfo, PathInfo},
    object_key::{ObjectKey, RandomPart},
    pin_name::PinName,
    plan,
    realisation::{OutputId, OutputName, Realisation},
    s3_error,
    signing::{Signature, SigningKey},
    store_path::{StoreDir, StorePath, StorePathHash},
    wire::{
        ClosuresResponse, CollectRequest, CollectStatus, CommitProgress, ErrorBody, PinRequest,
        PinsResponse, PlanRequest, PlanResponse, StoredRequest, StoredResponse, UploadId,
        UrlsRequest, UrlsResponse, VerifyRequest, VerifyResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes of a key that every S3 server takes.
const MAX_KEY_BYTES: usize = 1024;

/// What is taken is written and read again as the same, and can stand in a line.
fn name<T>(text: &str) -> Option<(T, String)>
where
    T: FromStr + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let value: T = text.parse().ok()?;
    let written = value.to_string();
    assert!(!written.is_empty() && !written.contains(char::is_control), "{written:?}");
    assert!(!written.contains(char::is_whitespace), "{written:?}");
    assert_eq!(written.parse::<T>().ok().as_ref(), Some(&value), "{text:?}");
    let json = serde_json::to_string(&value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value, "{text:?}");
    Some((value, written))
}

/// Of these there is one spelling: they are, or stand in, names of objects.
fn one_spelling<T>(text: &str) -> Option<T>
where
    T: FromStr + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let (value, written) = name::<T>(text)?;
    assert_eq!(written, text);
    Some(value)
}

/// All names that are texts.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for hash in [name::<NarHash>(text).map(|n| n.1), name::<FileHash>(text).map(|n| n.1)] {
        assert!(hash.is_none_or(|hash| hash.len() == "sha256:".len() + 52));
    }
    one_spelling::<BodyMd5>(text);
    one_spelling::<DerivationHash>(text);
    one_spelling::<Signature>(text);
    name::<ContentAddress>(text);
    one_spelling::<StorePathHash>(text);
    one_spelling::<UploadId>(text);
    one_spelling::<BuildId>(text);
    if let Some(path) = one_spelling::<StorePath>(text) {
        key(&format!("{}.narinfo", path.hash()));
        let store_dir = StoreDir::default();
        let absolute = path.absolute(&store_dir);
        assert_eq!(StorePath::from_absolute(&store_dir, &absolute).unwrap(), path);
        assert_eq!(key(&format!("log/{path}")).is_some(), path.is_derivation(), "{path}");
    }
    if let Some(pin) = one_spelling::<PinName>(text) {
        assert!(key(&format!("pins/{pin}")).is_some());
    }
    if let Some(id) = one_spelling::<OutputId>(text) {
        assert!(key(&id.key().to_string()).is_some());
    }
    one_spelling::<OutputName>(text);
    if let Ok(random) = text.parse::<RandomPart>() {
        assert_eq!(random.to_string(), text);
    }
    key(text);
    if let Ok(signing) = text.parse::<SigningKey>() {
        let signature = signing.sign("anything").to_string();
        assert!(one_spelling::<Signature>(&signature).is_some());
        let secret = signing.secret_text();
        assert!(!format!("{signing:?}").contains(secret.rsplit(':').next().unwrap()));
    }
}

/// A key stays in its bucket, and in its folder there.
fn key(text: &str) -> Option<ObjectKey> {
    let key = one_spelling::<ObjectKey>(text)?;
    assert!(text.len() <= MAX_KEY_BYTES && text.is_ascii(), "{text}");
    assert!(!text.contains(['\\', '%', '?', '#', '&']) || text.contains('?'), "{text}");
    for part in text.split('/') {
        assert!(!matches!(part, "" | "." | ".."), "{text}");
    }
    assert!(text.split('/').count() <= 3, "{text}");
    let _ = (key.kind(), key.content_type());
    Some(key)
}

/// A narinfo that lies in the bucket.
pub fn narinfo(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let store_dir = StoreDir::default();
    let Ok(found) = FoundNarInfo::parse(&store_dir, text) else { return };
    assert!(matches!(&found.nar, ObjectKey::Nar(hash, _) if *hash == found.nar_hash));
    assert!(key(&found.nar.to_string()).is_some());
    assert!(!found.references.contains(&found.path.hash()), "{text}");
    let reference = |hash: &StorePathHash| format!("{hash}-x").parse().unwrap();
    let info = PathInfo {
        path: found.path.clone(),
        nar: found.nar.clone(),
        file_hash: found.file_hash,
        file_size: found.file_size,
        nar_hash: found.nar_hash,
        nar_size: 1,
        references: found.references.iter().map(reference).collect(),
        deriver: found.deriver.clone(),
        signatures: Vec::new(),
        ca: None,
    };
    let composed = info.compose(&store_dir, &[]).unwrap();
    assert!(composed.ends_with('\n') && !composed.contains('\r'), "{composed:?}");
    assert!(composed.lines().all(|line| line.contains(": ")), "{composed:?}");
    assert!(found.references.is_sorted_by(|a, b| a < b), "{text}");
    assert_eq!(FoundNarInfo::parse(&store_dir, &composed).unwrap(), found);
}

/// A realisation in either layout.
pub fn realisation(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for id in OUTPUTS {
        let id: OutputId = id.parse().unwrap();
        let Ok(read) = Realisation::parse(&id, text) else { continue };
        assert_eq!(read.id, id);
        let composed = read.compose(&[]);
        assert!(!composed.contains('\n'), "{composed:?}");
        assert_eq!(Realisation::parse(&id, &composed).unwrap(), read);
        assert_eq!(read.compose(&[]), composed);
        assert!(!read.fingerprint().contains("\"signatures\""));
    }
}

/// The outputs of which [`realisation`] reads the realisations.
pub const OUTPUTS: [&str; 2] = [
    "sha256:e5d45ab2a01a5fb1ee1cd2e1a2d8c1cbd2f0bdb3c8e2d0c9a0d5a3f6a7b8c9d0!out",
    "26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello.drv^out",
];

/// Short texts of other kinds: debug information, S3's errors, durations.
pub fn texts(data: &[u8]) {
    if let Some(code) = s3_error::code(data) {
        assert!((1..=64).contains(&code.len()), "{code}");
        assert!(code.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{code}");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let escaped = s3_error::escaped(text);
    assert!(!escaped.contains(['<', '>', '"']), "{escaped}");
    if let Some(nar) = debug_info::archive(text) {
        assert!(matches!(nar, ObjectKey::Nar(..)) && key(&nar.to_string()).is_some());
        let id: BuildId = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        assert_eq!(debug_info::archive(&id.compose(&nar)), Some(nar));
    }
    match (duration::parse(text), duration::parse_or_zero(text)) {
        (Ok(one), Ok(other)) => assert!(one == other && !one.is_zero()),
        (Err(_), other) => assert!(other.is_err() || other.is_ok_and(|it| it.is_zero())),
        (Ok(_), Err(why)) => panic!("{why}"),
    }
}

/// What is taken is written and read again as the same.
fn body<T: Serialize + DeserializeOwned>(data: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_string(&value).unwrap();
    let again: T = serde_json::from_str(&written).unwrap_or_else(|why| panic!("{why}: {written}"));
    assert_eq!(serde_json::to_string(&again).unwrap(), written);
    Some(value)
}

/// Every body of the API.
pub fn wire(data: &[u8]) {
    if let Some(request) = body::<PlanRequest>(data) {
        checked(&request);
    }
    body::<PlanResponse>(data);
    body::<UrlsRequest>(data);
    body::<UrlsResponse>(data);
    body::<StoredRequest>(data);
    body::<StoredResponse>(data);
    body::<VerifyRequest>(data);
    body::<VerifyResponse>(data);
    body::<CommitProgress>(data);
    body::<CollectRequest>(data);
    body::<CollectStatus>(data);
    body::<PinRequest>(data);
    body::<PinsResponse>(data);
    body::<ClosuresResponse>(data);
    body::<ErrorBody>(data);
}

/// A plan that is taken is closed, and references come first in its order.
fn checked(request: &PlanRequest) {
    let Ok(order) = plan::check(request, &StoreDir::default()) else { return };
    let mut done = vec![false; request.paths.len()];
    assert_eq!(order.len(), done.len());
    for index in order {
        let path = &request.paths[index as usize];
        for to in &path.references {
            assert!(*to == index || done[*to as usize], "{path:?}");
        }
        assert!(path.nar_size > 0 && i64::try_from(path.nar_size).is_ok());
        assert!(!std::mem::replace(&mut done[index as usize], true), "{path:?} twice");
    }
    for root in &request.roots {
        assert!(done[*root as usize]);
    }
}
