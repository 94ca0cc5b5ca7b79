//! The bucket of one test, and what is in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use niks3_core::{
    debug_info,
    hash::{FileHash, NarHash},
    object_key::ObjectKey,
    realisation::{OutputId, Realisation},
};
use rusty_s3::{
    Credentials, S3Action as _, UrlStyle,
    actions::{ListObjectsV2, ListObjectsV2Response},
};
use sha2::{Digest as _, Sha256};

use super::parts::{embedded_s3, http, parts, unique};

const A_MINUTE: Duration = Duration::from_secs(60);

pub struct Bucket {
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
    /// What Nix reads from.
    reader: String,
    removed: AtomicBool,
}

/// Some S3 servers take only so many buckets. The embedded one goes with all of its files.
impl Drop for Bucket {
    fn drop(&mut self) {
        if !embedded_s3() && !self.removed.load(Ordering::Relaxed) {
            let again = Self {
                bucket: self.bucket.clone(),
                credentials: self.credentials.clone(),
                reader: String::new(),
                removed: AtomicBool::new(true),
            };
            parts().runtime.spawn(async move { again.remove().await });
        }
    }
}

/// The fields of a narinfo, decoded.
pub type Narinfo = BTreeMap<String, String>;

impl Bucket {
    pub async fn create() -> Self {
        let s3 = &parts().s3;
        let name = format!("test-{}", unique());
        let endpoint = s3.endpoint.parse().unwrap();
        let bucket =
            rusty_s3::Bucket::new(endpoint, UrlStyle::Path, name.clone(), s3.region.clone())
                .unwrap();
        let credentials = Credentials::new(s3.access_key.clone(), s3.secret_key.clone());
        let url = bucket.create_bucket(&credentials).sign(A_MINUTE);
        let response = http().put(url).send().await.unwrap();
        assert!(response.status().is_success(), "cannot create {name}: {response:?}");
        let reader = if s3.public {
            format!("{}/{name}", s3.endpoint.trim_end_matches('/'))
        } else {
            serve_publicly(bucket.clone(), credentials.clone()).await
        };
        Self { bucket, credentials, reader, removed: AtomicBool::new(false) }
    }

    pub fn name(&self) -> &str {
        self.bucket.name()
    }

    /// The URL that Nix reads from.
    pub fn reader(&self) -> &str {
        &self.reader
    }

    /// Ids of the multipart uploads that are under way.
    pub async fn open_multiparts(&self) -> Vec<String> {
        let url = rusty_s3::signing::sign(
            &jiff::Timestamp::now(),
            rusty_s3::Method::Get,
            self.bucket.base_url().clone(),
            self.credentials.key(),
            self.credentials.secret(),
            None,
            self.bucket.region(),
            A_MINUTE.as_secs(),
            [("uploads", "")].into_iter(),
            std::iter::empty(),
        );
        let response = http().get(url).send().await.unwrap().error_for_status().unwrap();
        let text = response.text().await.unwrap();
        let ids = text.split("<UploadId>").skip(1).filter_map(|rest| rest.split_once('<'));
        ids.map(|(id, _)| id.to_owned()).collect()
    }

    pub async fn keys(&self) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        let mut token: Option<String> = None;
        loop {
            let mut list = ListObjectsV2::new(&self.bucket, Some(&self.credentials));
            if let Some(token) = &token {
                list.with_continuation_token(token.clone());
            }
            let text = http().get(list.sign(A_MINUTE)).send().await.unwrap().text().await.unwrap();
            let page: ListObjectsV2Response = ListObjectsV2::parse_response(&text).unwrap();
            keys.extend(page.contents.into_iter().map(|object| object.key));
            token = page.next_continuation_token;
            if token.is_none() {
                return keys;
            }
        }
    }

    /// The keys that end so.
    pub async fn keys_ending(&self, suffix: &str) -> Vec<String> {
        self.keys().await.into_iter().filter(|key| key.ends_with(suffix)).collect()
    }

    /// An object's bytes as they lie there, and its Content-Encoding and Content-Type.
    pub async fn raw(&self, key: &str) -> Option<(Vec<u8>, Option<String>, Option<String>)> {
        let url = self.bucket.get_object(Some(&self.credentials), key).sign(A_MINUTE);
        let response = http().get(url).send().await.unwrap();
        if response.status() == 404 {
            return None;
        }
        assert!(response.status().is_success(), "{key}: {}", response.status());
        let header = |name| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
        let (encoding, kind) = (header("content-encoding"), header("content-type"));
        Some((response.bytes().await.unwrap().to_vec(), encoding, kind))
    }

    /// A header of an object, as a reader gets it.
    pub async fn header(&self, key: &str, name: &str) -> Option<String> {
        let url = self.bucket.get_object(Some(&self.credentials), key).sign(A_MINUTE);
        let response = http().get(url).send().await.unwrap().error_for_status().unwrap();
        Some(response.headers().get(name)?.to_str().unwrap().to_owned())
    }

    /// A narinfo's or listing's text, decoded as its Content-Encoding says.
    pub async fn text(&self, key: &str) -> String {
        let (body, encoding, _) = self.raw(key).await.unwrap_or_else(|| panic!("no {key}"));
        let body = match encoding.as_deref() {
            Some("zstd") => zstd::decode_all(body.as_slice()).unwrap(),
            None => body,
            other => panic!("{key} has Content-Encoding {other:?}"),
        };
        String::from_utf8(body).unwrap()
    }

    pub async fn narinfo(&self, key: &str) -> Narinfo {
        fields(&self.text(key).await)
    }

    /// That of a store path.
    pub async fn narinfo_of(&self, path: &str) -> Narinfo {
        self.narinfo(&format!("{}.narinfo", &path["/nix/store/".len()..][..32])).await
    }

    pub async fn put(&self, key: &str, body: &'static str) {
        let url = self.bucket.put_object(Some(&self.credentials), key).sign(A_MINUTE);
        assert!(http().put(url).body(body).send().await.unwrap().status().is_success());
    }

    pub async fn delete(&self, key: &str) {
        let url = self.bucket.delete_object(Some(&self.credentials), key).sign(A_MINUTE);
        assert!(http().delete(url).send().await.unwrap().status().is_success());
    }

    /// Deletes all objects, and the bucket.
    pub async fn remove(&self) {
        self.removed.store(true, Ordering::Relaxed);
        for key in self.keys().await {
            self.delete(&key).await;
        }
        let url = self.bucket.delete_bucket(&self.credentials).sign(A_MINUTE);
        let response = http().delete(url).send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
    }

    /// A narinfo that a reader meets can be realised at this moment: its NAR and the narinfos of
    /// its references are there.
    pub async fn assert_met(&self, key: &str) {
        let narinfo = self.narinfo(key).await;
        let references = narinfo["References"].split_whitespace();
        let needed = references.map(|reference| format!("{}.narinfo", &reference[..32]));
        for needed in needed.chain([narinfo["URL"].clone()]) {
            assert!(self.raw(&needed).await.is_some(), "{key} can be read, {needed} cannot");
        }
    }

    /// See [`super::TestCache::assert_consistent`].
    pub async fn assert_consistent(&self) {
        let keys = self.keys().await;
        for key in keys.iter().filter(|key| key.ends_with(".narinfo")) {
            let narinfo = self.narinfo(key).await;
            let (nar, encoding, _) = self
                .raw(&narinfo["URL"])
                .await
                .unwrap_or_else(|| panic!("{key} is there, its NAR is not"));
            assert_eq!(encoding, None, "a NAR has no Content-Encoding");
            assert_eq!(nar.len().to_string(), narinfo["FileSize"], "{key}");
            let file_hash = FileHash::new(Sha256::digest(&nar).into());
            assert_eq!(file_hash.to_string(), narinfo["FileHash"], "{key}");
            let nar = zstd::decode_all(nar.as_slice()).unwrap();
            let nar_hash = NarHash::new(Sha256::digest(&nar).into());
            assert_eq!(nar_hash.to_string(), narinfo["NarHash"], "{key}");
            assert_eq!(nar.len().to_string(), narinfo["NarSize"], "{key}");
            for reference in narinfo["References"].split_whitespace() {
                let needed = format!("{}.narinfo", &reference[..32]);
                assert!(keys.contains(&needed), "{key} is there, its reference {needed} is not");
            }
        }
        for key in &keys {
            if let Some(needed) = self.named_by(key).await {
                assert!(keys.contains(&needed), "{key} is there, {needed} is not");
            }
        }
    }

    /// What a realisation or debug info needs to be of any use.
    async fn named_by(&self, key: &str) -> Option<String> {
        let parsed: ObjectKey = key.parse().ok()?;
        if let Some(id) = OutputId::of_key(&parsed) {
            let realisation = Realisation::parse(&id, &self.text(key).await).unwrap();
            return Some(ObjectKey::NarInfo(realisation.path.hash()).to_string());
        }
        match parsed {
            ObjectKey::DebugInfo(_) => {
                Some(debug_info::archive(&self.text(key).await).unwrap().to_string())
            }
            _ => None,
        }
    }
}

/// The fields of a narinfo; several `Sig` lines become one.
pub fn fields(text: &str) -> Narinfo {
    let mut fields = Narinfo::new();
    for line in text.lines() {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.trim_start();
        let field = fields.entry(name.to_owned()).or_default();
        if !field.is_empty() {
            field.push(' ');
        }
        field.push_str(value);
    }
    fields
}

/// Lets anyone read a bucket that is not public, as a CDN would: what S3 says, passed on.
async fn serve_publicly(bucket: rusty_s3::Bucket, credentials: Credentials) -> String {
    use axum::{Router, body::Body, extract::Path, http::HeaderMap, routing::get};
    let read = move |Path(key): Path<String>| {
        let url = bucket.get_object(Some(&credentials), &key).sign(A_MINUTE);
        async move {
            let answer = http().get(url).send().await.unwrap();
            let status = answer.status();
            let mut headers = HeaderMap::new();
            for name in ["content-type", "content-encoding", "content-length", "cache-control"] {
                if let Some(value) = answer.headers().get(name) {
                    headers.insert(name, value.clone());
                }
            }
            (status, headers, Body::from(answer.bytes().await.unwrap()))
        }
    };
    let app = Router::new().route("/{*key}", get(read));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}
