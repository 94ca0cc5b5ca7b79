//! Bodies that do not become objects, and requests that are not let in.

use super::*;

#[tokio::test]
async fn a_body_that_is_refused_for_its_md5_leaves_what_was_there() {
    let cache = Fixture::start().await;
    let md5 = md5_base64(b"right");
    let signed = [("content-length", "5"), ("content-md5", md5.as_str())];
    let response = cache.put("a", &signed, "wrong").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(response.text().await.unwrap().contains("<Code>BadDigest</Code>"));
    assert_eq!(cache.read("a").await.0, StatusCode::NOT_FOUND);
    assert!(cache.beside_the_bucket().is_empty());

    let typed = [("content-type", "text/x-old")];
    assert_eq!(cache.put("a", &typed, "old").await.status(), StatusCode::OK);
    assert_eq!(cache.put("a", &signed, "wrong").await.status(), StatusCode::BAD_REQUEST);
    let response = cache.get("a").await;
    assert_eq!(header(&response, "etag"), etag(b"old"));
    assert_eq!(header(&response, "content-type"), "text/x-old");
    assert_eq!(response.text().await.unwrap(), "old");

    assert_eq!(cache.put("a", &signed, "right").await.status(), StatusCode::OK);
    assert_eq!(cache.read("a").await.1, "right");
    let response = cache.put("a", &[("content-md5", "no md5")], "x").await;
    assert!(response.text().await.unwrap().contains("<Code>InvalidDigest</Code>"));
}

#[tokio::test]
async fn a_body_that_is_refused_for_another_checksum_is_not_stored() {
    let cache = Fixture::start().await;
    let sha256 = BASE64.encode([7; 32]);
    let signed = [("x-amz-checksum-sha256", sha256.as_str())];
    assert_eq!(cache.put("a", &signed, "x").await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(cache.read("a").await.0, StatusCode::NOT_FOUND);
    assert!(cache.beside_the_bucket().is_empty());
}

#[tokio::test]
async fn what_is_signed_cannot_be_sent_otherwise() {
    let cache = Fixture::start().await;
    let md5 = md5_base64(b"right");
    let signed = [
        ("content-encoding", "zstd"),
        ("content-length", "5"),
        ("content-md5", md5.as_str()),
        ("content-type", "text/x-nix-narinfo"),
    ];
    let url = cache.put_url("a", &signed);
    let send = async |body: reqwest::Body, headers: &[(&str, &str)]| {
        let mut request = cache.http.put(url.clone()).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status()
    };
    let [encoding, _, digest, content_type] = signed;
    let sent = [encoding, digest, content_type];
    let refused = StatusCode::FORBIDDEN;
    // Another length, or none since the body is a stream.
    assert_eq!(send("right but longer".into(), &sent).await, refused);
    assert_eq!(send("righ".into(), &sent).await, refused);
    let pieces = stream::iter([Ok::<_, io::Error>("right")]);
    assert_eq!(send(reqwest::Body::wrap_stream(pieces), &sent).await, refused);
    // Another digest than the one that is signed, though it is that of the body.
    let other = ("content-md5", md5_base64(b"wrong"));
    let other = (other.0, other.1.as_str());
    assert_eq!(send("wrong".into(), &[encoding, other, content_type]).await, refused);
    // A header left out or changed.
    assert_eq!(send("right".into(), &[encoding, content_type]).await, refused);
    assert_eq!(send("right".into(), &[digest, content_type]).await, refused);
    let plain = ("content-type", "text/plain");
    assert_eq!(send("right".into(), &[encoding, digest, plain]).await, refused);
    // Another key.
    let mut elsewhere = url.clone();
    elsewhere.set_path("/cache/b");
    let request = cache.http.put(elsewhere).body("right");
    assert_eq!(request.send().await.unwrap().status(), refused);

    assert!(cache.keys().await.is_empty());
    assert_eq!(send("right".into(), &sent).await, StatusCode::OK);
}

#[tokio::test]
async fn an_expired_url_is_refused() {
    let cache = Fixture::start().await;
    let second = Duration::from_secs(1);
    let put = cache.bucket.put_object(Some(&cache.credentials), "a").sign(second);
    let head = cache.bucket.head_object(Some(&cache.credentials), "a").sign(second);
    // The clock that counts is the server's.
    sleep(second * 2 + ACCEPT_PAUSE).await;
    let response = cache.http.put(put).body("x").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(response.text().await.unwrap().contains("Request has expired"));
    assert_eq!(cache.http.head(head).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert!(cache.keys().await.is_empty());
}

/// Waits until the server has given up what it was receiving.
async fn nothing_is_being_received(cache: &Fixture) {
    timeout(MINUTE, cache.s3.store.writes_done()).await.unwrap();
}

#[tokio::test]
async fn a_put_that_is_cut_off_leaves_what_was_there() {
    let cache = Fixture::start().await;
    cache.put("old", &[], "old").await;
    for key in ["new", "old"] {
        let url = cache.put_url(key, &[("content-length", "1000")]);
        let mut socket = TcpStream::connect(cache.s3.addr()).await.unwrap();
        let (path, query) = (url.path(), url.query().unwrap());
        let host = cache.s3.addr();
        let head =
            format!("PUT {path}?{query} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1000\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&[b'x'; 999]).await.unwrap();
        // Until it is being received: then there is a temporary file.
        timeout(MINUTE, async {
            while !cache.beside_the_bucket().iter().any(|name| name.starts_with(".tmp.")) {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        drop(socket);
        nothing_is_being_received(&cache).await;
    }
    assert_eq!(cache.read("new").await.0, StatusCode::NOT_FOUND);
    assert_eq!(cache.read("old").await.1, "old");
    assert_eq!(cache.keys().await, ["old"]);
    assert!(!cache.beside_the_bucket().iter().any(|name| name.starts_with(".tmp.")));
}

#[tokio::test]
async fn a_put_is_finished_when_its_client_has_gone_after_the_last_byte() {
    let cache = Fixture::start().await;
    let signed = [("content-encoding", "zstd"), ("content-length", "1")];
    for turn in 0..20 {
        let key = format!("key-{turn}");
        let url = cache.put_url(&key, &signed);
        let (path, query) = (url.path(), url.query().unwrap());
        let host = cache.s3.addr();
        let text = format!(
            "PUT {path}?{query} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1\r\n\
             content-encoding: zstd\r\n\r\nx"
        );
        let mut socket = TcpStream::connect(host).await.unwrap();
        socket.write_all(text.as_bytes()).await.unwrap();
        drop(socket);
    }
    // Whatever was stored has its headers.
    sleep(ACCEPT_PAUSE).await;
    nothing_is_being_received(&cache).await;
    let keys = cache.keys().await;
    for key in &keys {
        assert_eq!(header(&cache.get(key).await, "content-encoding"), "zstd", "{key}");
    }
}
