mod parts;
mod refused;

use std::{collections::BTreeSet, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use md5::{Digest as _, Md5};
use reqwest::{Method, Response, StatusCode, Url};
use rusty_s3::{
    Bucket, Credentials, S3Action, UrlStyle,
    actions::{
        CompleteMultipartUpload, CreateMultipartUpload, DeleteObjects, DeleteObjectsResponse,
        ListObjectsV2, ListParts, ObjectIdentifier,
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A server with one bucket, and a client of it.
struct Fixture {
    s3: EmbeddedS3,
    folder: TempDir,
    bucket: Bucket,
    credentials: Credentials,
    http: reqwest::Client,
}

fn options(root: &Path) -> S3Options {
    S3Options {
        root: root.to_owned(),
        buckets: vec!["cache".to_owned()],
        access_key: "an-access-key".to_owned(),
        secret_key: "a-secret-key".to_owned(),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
    }
}

fn bucket(endpoint: &str, style: UrlStyle, name: &'static str) -> Bucket {
    Bucket::new(Url::parse(endpoint).unwrap(), style, name, "us-east-1").unwrap()
}

impl Fixture {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let s3 = EmbeddedS3::start(options(folder.path())).await.unwrap();
        // Plain HTTP to this machine: neither certificates nor a proxy. The name of a bucket's
        // own host is not known to every resolver.
        let http = reqwest::Client::builder()
            .tls_certs_only([])
            .no_proxy()
            .resolve("cache.localhost", s3.addr())
            .build()
            .unwrap();
        Self {
            bucket: bucket(&s3.endpoint(), UrlStyle::Path, "cache"),
            credentials: Credentials::new("an-access-key", "a-secret-key"),
            s3,
            folder,
            http,
        }
    }

    fn put_url(&self, key: &str, signed: &[(&'static str, &str)]) -> Url {
        let mut action = self.bucket.put_object(Some(&self.credentials), key);
        for (name, value) in signed {
            action.headers_mut().insert(*name, value.to_string());
        }
        action.sign(MINUTE)
    }

    /// Puts through a URL for which the headers are signed, and sends just these.
    async fn put(
        &self,
        key: &str,
        signed: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Response {
        let mut request = self.http.put(self.put_url(key, signed)).body(body.into());
        for (name, value) in signed {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// As anyone may.
    async fn get(&self, key: &str) -> Response {
        self.http.get(self.bucket.object_url(key)).send().await.unwrap()
    }

    /// The status and the body.
    async fn read(&self, key: &str) -> (StatusCode, Bytes) {
        let response = self.get(key).await;
        (response.status(), response.bytes().await.unwrap())
    }

    async fn head_signed(&self, bucket: &Bucket, key: &str) -> StatusCode {
        let url = bucket.head_object(Some(&self.credentials), key).sign(MINUTE);
        self.http.head(url).send().await.unwrap().status()
    }

    async fn page(
        &self,
        arrange: impl FnOnce(&mut ListObjectsV2<'_>),
    ) -> (Vec<String>, Option<String>) {
        let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
        arrange(&mut action);
        let response = self.http.get(action.sign(MINUTE)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let page = ListObjectsV2::parse_response(&response.text().await.unwrap()).unwrap();
        let keys = page.contents.into_iter().map(|object| object.key).collect();
        (keys, page.next_continuation_token)
    }

    async fn keys(&self) -> Vec<String> {
        self.page(|_| ()).await.0
    }

    async fn begin(&self, key: &str, signed: &[(&'static str, &str)]) -> String {
        let mut action = self.bucket.create_multipart_upload(Some(&self.credentials), key);
        for (name, value) in signed {
            action.headers_mut().insert(*name, value.to_string());
        }
        let mut request = self.http.post(action.sign(MINUTE));
        for (name, value) in signed {
            request = request.header(*name, *value);
        }
        let text = request.send().await.unwrap().text().await.unwrap();
        CreateMultipartUpload::parse_response(&text).unwrap().upload_id().to_owned()
    }

    async fn put_part(&self, key: &str, id: &str, number: u16, body: Bytes) -> Response {
        let action = self.bucket.upload_part(Some(&self.credentials), key, number, id);
        self.http.put(action.sign(MINUTE)).body(body).send().await.unwrap()
    }

    async fn complete(&self, key: &str, id: &str, etags: &[&str]) -> (StatusCode, String) {
        let etags = etags.iter().copied();
        let action =
            CompleteMultipartUpload::new(&self.bucket, Some(&self.credentials), key, id, etags);
        let url = action.sign(MINUTE);
        let response = self.http.post(url).body(action.body()).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn abort(&self, key: &str, id: &str) -> StatusCode {
        let action = self.bucket.abort_multipart_upload(Some(&self.credentials), key, id);
        self.http.delete(action.sign(MINUTE)).send().await.unwrap().status()
    }

    /// The names of all files and folders beside the bucket.
    fn beside_the_bucket(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "cache" && name != LOCK_FILE).collect()
    }
}

fn md5_base64(body: &[u8]) -> String {
    BASE64.encode(Md5::digest(body))
}

fn etag(body: &[u8]) -> String {
    let hex: String = Md5::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// An answer as it is, to a request as it is.
async fn get_raw(addr: SocketAddr, host: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn an_object_comes_back_with_its_headers_for_anyone() {
    let cache = Fixture::start().await;
    let body = Bytes::from_static(b"not really zstd");
    let signed = [
        ("cache-control", "immutable"),
        ("content-encoding", "zstd"),
        ("content-length", "15"),
        ("content-md5", &md5_base64(&body)),
        ("content-type", "text/x-nix-narinfo"),
    ];
    let response = cache.put("a.narinfo", &signed, body.clone()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "etag"), etag(&body));

    let url = cache.bucket.object_url("a.narinfo");
    for method in [Method::HEAD, Method::GET] {
        let response = cache.http.request(method.clone(), url.clone()).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "content-type"), "text/x-nix-narinfo");
        assert_eq!(header(&response, "content-encoding"), "zstd");
        assert_eq!(header(&response, "content-length"), "15");
        assert_eq!(header(&response, "cache-control"), "immutable");
        assert_eq!(header(&response, "etag"), etag(&body));
        assert!(response.headers().contains_key("last-modified"));
        if method == Method::GET {
            assert_eq!(response.bytes().await.unwrap(), body);
        }
    }
    let range = cache.http.get(url).header("range", "bytes=4-9").send().await.unwrap();
    assert_eq!(range.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(range.bytes().await.unwrap(), body.slice(4..10));

    // Without these headers, none come back: not those of the object that was there before.
    cache.put("a.narinfo", &[], "").await;
    let response = cache.get("a.narinfo").await;
    assert_eq!(header(&response, "content-encoding"), "");
    assert_eq!(header(&response, "content-type"), "");
    assert_eq!(header(&response, "content-length"), "0");
}

#[tokio::test]
async fn without_the_key_pair_there_is_nothing_but_reading() {
    let cache = Fixture::start().await;
    cache.put("a", &[], "x").await;
    let object = cache.bucket.object_url("a");
    let root = cache.bucket.object_url("");
    for (method, url) in [
        (Method::PUT, object.clone()),
        (Method::DELETE, object.clone()),
        (Method::GET, root.clone()),
        (Method::POST, format!("{object}?uploads").parse().unwrap()),
        (Method::POST, format!("{root}?delete").parse().unwrap()),
    ] {
        let request = cache.http.request(method.clone(), url.clone()).body("y");
        let status = request.send().await.unwrap().status();
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {url}");
    }
    for wrong in [Credentials::new("an-access-key", "?"), Credentials::new("?", "a-secret-key")] {
        let url = cache.bucket.put_object(Some(&wrong), "a").sign(MINUTE);
        let status = cache.http.put(url).body("y").send().await.unwrap().status();
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    assert_eq!(cache.read("a").await, (StatusCode::OK, "x".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_reads_while_others_write_gets_one_of_their_objects_as_a_whole() {
    let cache = Fixture::start().await;
    const WRITES: usize = 200;
    let body = |number: usize| Bytes::from(format!("{number} ").repeat(1 + number * 37));
    let write = |number: usize| {
        let (cache, body) = (&cache, body(number));
        async move {
            let content_type = format!("text/x-{}", body.len());
            let signed = [("content-type", content_type.as_str())];
            let response = cache.put("a", &signed, body.clone()).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(header(&response, "etag"), etag(&body));
        }
    };
    let read = |_| async {
        let response = cache.get("a").await;
        let (etag_sent, content_type) =
            (header(&response, "etag").to_owned(), header(&response, "content-type").to_owned());
        let body = response.bytes().await.unwrap();
        assert_eq!(etag_sent, etag(&body));
        assert_eq!(content_type, format!("text/x-{}", body.len()));
    };
    write(0).await;
    let writes = stream::iter(1..WRITES).map(write).buffer_unordered(8).collect::<()>();
    let reads = stream::iter(0..2 * WRITES).map(read).buffer_unordered(8).collect::<()>();
    tokio::join!(writes, reads);
    read(0).await;
}

#[tokio::test]
async fn what_is_missing_is_not_found() {
    let cache = Fixture::start().await;
    cache.put("nar/a", &[], "x").await;
    let no_bucket = bucket(&cache.s3.endpoint(), UrlStyle::Path, "elsewhere");
    let not_found = StatusCode::NOT_FOUND;
    assert_eq!(cache.head_signed(&cache.bucket, "missing").await, not_found);
    assert_eq!(cache.head_signed(&no_bucket, "a").await, not_found);
    // A folder is no object.
    for key in ["nar", "nar/", "nar/a/b", "nar//a"] {
        assert_eq!(cache.head_signed(&cache.bucket, key).await, not_found, "{key}");
        let url = cache.bucket.get_object(Some(&cache.credentials), key).sign(MINUTE);
        assert_eq!(cache.http.get(url).send().await.unwrap().status(), not_found, "{key}");
    }
    // What is outside the bucket's folder is none of it. A URL library would simplify these.
    for path in ["/cache/../cache/nar/a", "/cache/%2e%2e/cache/nar/a", "/cache/nar/..%2Fnar/a"] {
        let answer = get_raw(cache.s3.addr(), "127.0.0.1", path).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    let url = no_bucket.put_object(Some(&cache.credentials), "a").sign(MINUTE);
    assert_eq!(cache.http.put(url).body("x").send().await.unwrap().status(), not_found);
    assert!(!cache.folder.path().join("elsewhere").exists());
    let url = no_bucket.head_bucket(Some(&cache.credentials)).sign(MINUTE);
    assert_eq!(cache.http.head(url).send().await.unwrap().status(), not_found);
    let url = no_bucket.list_objects_v2(Some(&cache.credentials)).sign(MINUTE);
    assert_eq!(cache.http.get(url).send().await.unwrap().status(), not_found);
}

#[tokio::test]
async fn keys_with_odd_characters_come_back_and_are_listed() {
    let cache = Fixture::start().await;
    let keys = [
        "log/1234-gtk+-3.24.drv",
        "log/a b%2Bc.drv",
        "pins/q?x=1&y#z",
        "realisations/sha256:ab!out.doi",
        "\u{fc}",
    ];
    for key in keys {
        assert_eq!(cache.put(key, &[], key).await.status(), StatusCode::OK, "{key}");
        assert_eq!(cache.read(key).await, (StatusCode::OK, key.into()));
        assert_eq!(cache.head_signed(&cache.bucket, key).await, StatusCode::OK);
    }
    // An unencoded plus in a path is a plus.
    let url = format!("{}/cache/log/1234-gtk+-3.24.drv", cache.s3.endpoint());
    assert_eq!(cache.http.get(url).send().await.unwrap().text().await.unwrap(), keys[0]);
    assert_eq!(cache.keys().await, keys);
    assert_eq!(cache.page(|list| list.with_prefix("log/1234-gtk+")).await.0, keys[..1]);
}

#[tokio::test]
async fn a_listing_is_read_page_by_page() {
    let cache = Fixture::start().await;
    let keys: Vec<String> = (0..7).map(|number| format!("nar/+ {number}")).collect();
    for key in &keys {
        cache.put(key, &[], "x").await;
    }
    let mut listed = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..4 {
        let (page, next) = cache
            .page(|list| {
                list.with_max_keys(2);
                if let Some(token) = &token {
                    list.with_continuation_token(token.clone());
                }
            })
            .await;
        assert!(page.len() <= 2);
        listed.extend(page);
        token = next;
    }
    assert_eq!((listed, token), (keys, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_does_not_fail_when_objects_go_meanwhile() {
    let cache = Fixture::start().await;
    let write_and_delete = async {
        for turn in 0..150 {
            let key = format!("nar/{turn}");
            cache.put(&key, &[], "x").await;
            let url = cache.bucket.delete_object(Some(&cache.credentials), &key).sign(MINUTE);
            assert_eq!(cache.http.delete(url).send().await.unwrap().status(), 204);
        }
    };
    let list = async {
        for _ in 0..150 {
            cache.keys().await;
        }
    };
    tokio::join!(write_and_delete, list);
}

#[tokio::test]
async fn deleting_leaves_nothing_behind_and_what_is_missing_counts_as_deleted() {
    let cache = Fixture::start().await;
    for key in ["nar/a", "nar/b", "nar/c"] {
        cache.put(key, &[], "x").await;
    }
    let url = cache.bucket.delete_object(Some(&cache.credentials), "nar/c").sign(MINUTE);
    for _ in 0..2 {
        assert_eq!(cache.http.delete(url.clone()).send().await.unwrap().status(), 204);
    }
    let names = ["nar/a", "nar", "missing", "nar/b", "nar/b/c"];
    let objects: Vec<_> = names.iter().map(|key| ObjectIdentifier::new((*key).into())).collect();
    let action = DeleteObjects::new(&cache.bucket, Some(&cache.credentials), objects.iter());
    let url = action.sign(MINUTE);
    let (body, md5) = action.body_with_md5();
    let request = cache.http.post(url).header("content-md5", md5).body(body);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let result = DeleteObjectsResponse::parse(&response.text().await.unwrap()).unwrap();
    let deleted: Vec<_> = result.deleted.into_iter().map(|object| object.key).collect();
    assert_eq!((deleted.as_slice(), result.errors.len()), (names.map(String::from).as_slice(), 0));
    assert!(cache.keys().await.is_empty());
    assert!(cache.beside_the_bucket().is_empty());
}

#[tokio::test]
async fn a_bucket_may_stand_in_the_host_or_in_the_path() {
    let cache = Fixture::start().await;
    let port = cache.s3.addr().port();
    let in_host = bucket(&format!("http://localhost:{port}"), UrlStyle::VirtualHost, "cache");
    let url = in_host.put_object(Some(&cache.credentials), "a").sign(MINUTE);
    assert_eq!(url.host_str(), Some("cache.localhost"));
    assert_eq!(cache.http.put(url).body("x").send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(cache.read("a").await.1, "x");

    // curl's spelling, which a URL library refuses, and a name under which others know us.
    for (host, path) in [
        (format!("cache.127.0.0.1:{port}"), "/a"),
        (format!("localhost:{port}"), "/cache/a"),
        ("s3.example.org".to_owned(), "/cache/a"),
    ] {
        let answer = get_raw(cache.s3.addr(), &host, path).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nx"), "{answer}");
    }
}

#[tokio::test]
async fn a_folder_has_one_server_at_a_time_and_keeps_its_objects() {
    let cache = Fixture::start().await;
    cache.put("a", &[("content-type", "text/x-a")], "x").await;
    let root = cache.folder.path();
    let error = EmbeddedS3::start(options(root)).await.err().unwrap();
    assert!(matches!(error, EmbeddedS3Error::InUse { .. }), "{error:?}");

    let addr = cache.s3.addr();
    cache.s3.stop().await;
    assert!(TcpStream::connect(addr).await.is_err());
    let again = EmbeddedS3::start(S3Options { listen: addr, ..options(root) }).await.unwrap();
    let url = format!("{}/cache/a", again.endpoint());
    let response = cache.http.get(url).send().await.unwrap();
    assert_eq!(header(&response, "content-type"), "text/x-a");
    assert_eq!(response.text().await.unwrap(), "x");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let with_bucket = S3Options { buckets: vec!["../x".to_owned()], ..options(folder.path()) };
    let error = EmbeddedS3::start(with_bucket).await.err().unwrap();
    assert_eq!(error.to_string(), "\"../x\" cannot be the name of an S3 bucket");

    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let listen = taken.local_addr().unwrap();
    let error = EmbeddedS3::start(S3Options { listen, ..options(folder.path()) }).await.err();
    let error = error.unwrap();
    assert_eq!(error.to_string(), format!("cannot listen on {listen}"));
    assert_eq!(error.hint().unwrap(), "choose another address or port");
}

#[test]
fn there_are_connections_for_everyone_where_many_files_may_be_open() {
    assert_eq!([1024, 20_000, u64::MAX].map(super::connections), [256, 4096, 4096]);
}
