//! Uploads in parts.

use super::*;

const FIVE_MIB: usize = 5 << 20;

#[tokio::test]
async fn an_upload_in_parts_is_checked_before_it_becomes_an_object() {
    let cache = Fixture::start().await;
    let (key, first, last) = ("nar/a", Bytes::from(vec![b'1'; FIVE_MIB]), Bytes::from("end"));
    let id = cache.begin(key, &[("content-type", "application/x-nix-nar")]).await;
    assert_eq!(cache.put_part(key, &id, 2, last.clone()).await.status(), StatusCode::OK);
    assert_eq!(cache.put_part(key, &id, 1, Bytes::from("small")).await.status(), StatusCode::OK);

    let small = etag(b"small");
    let (status, text) = cache.complete(key, &id, &[&small, &etag(&last)]).await;
    assert!(text.contains("<Code>EntityTooSmall</Code>"), "{status} {text}");
    let response = cache.put_part(key, &id, 1, first.clone()).await;
    assert_eq!(header(&response, "etag"), etag(&first));
    let (status, text) = cache.complete(key, &id, &[&small, &etag(&last)]).await;
    assert!(text.contains("<Code>InvalidPart</Code>"), "{status} {text}");
    assert_eq!(cache.read(key).await.0, StatusCode::NOT_FOUND);

    let mut action = ListParts::new(&cache.bucket, Some(&cache.credentials), key, &id);
    action.set_max_parts(1);
    let text = cache.http.get(action.sign(MINUTE)).send().await.unwrap().text().await.unwrap();
    let page = ListParts::parse_response(&text).unwrap();
    assert_eq!((page.parts.len(), page.next_part_number_marker), (1, Some(1)));
    assert_eq!((page.parts[0].etag.as_str(), page.parts[0].number), (etag(&first).as_str(), 1));
    assert_eq!(page.parts[0].size, FIVE_MIB as u64);

    // One part too many was sent; it is not named, and does not stay.
    cache.put_part(key, &id, 4, last.clone()).await;
    let (status, text) = cache.complete(key, &id, &[&etag(&first), &etag(&last)]).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let response = cache.get(key).await;
    assert_eq!(header(&response, "content-type"), "application/x-nix-nar");
    assert!(header(&response, "etag").ends_with("-2\""));
    assert_eq!(response.bytes().await.unwrap(), [first, last.clone()].concat());
    let is_sidecar = |name: &String| name.starts_with(".bucket-");
    assert!(cache.beside_the_bucket().iter().all(is_sidecar), "{:?}", cache.beside_the_bucket());

    // It is over: whatever comes now is too late.
    let gone = StatusCode::NOT_FOUND;
    assert_eq!(cache.complete(key, &id, &[&etag(&last)]).await.0, gone);
    assert_eq!(cache.put_part(key, &id, 1, last).await.status(), gone);
    assert_eq!(cache.abort(key, &id).await, gone);
}

#[tokio::test]
async fn a_part_that_is_refused_leaves_the_one_before_it() {
    let cache = Fixture::start().await;
    let id = cache.begin("nar/a", &[]).await;
    cache.put_part("nar/a", &id, 1, Bytes::from("right")).await;
    let mut action = cache.bucket.upload_part(Some(&cache.credentials), "nar/a", 1, &id);
    let md5 = md5_base64(b"right");
    action.headers_mut().insert("content-md5", md5.clone());
    let request = cache.http.put(action.sign(MINUTE)).header("content-md5", md5).body("wrong");
    assert_eq!(request.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    // An upload belongs to one key.
    let status = cache.put_part("nar/b", &id, 1, Bytes::from("x")).await.status();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(cache.complete("nar/a", &id, &[&etag(b"right")]).await.0, StatusCode::OK);
    assert_eq!(cache.read("nar/a").await.1, "right");
}

#[tokio::test]
async fn a_part_that_arrives_when_its_upload_has_ended_does_not_stay() {
    let cache = Fixture::start().await;
    let id = cache.begin("nar/a", &[]).await;
    let (send, arrive) = tokio::sync::oneshot::channel();
    let body = stream::once(async { Ok::<_, io::Error>(arrive.await.unwrap()) });
    let action = cache.bucket.upload_part(Some(&cache.credentials), "nar/a", 1, &id);
    let request = cache
        .http
        .put(action.sign(MINUTE))
        .header("content-length", "4")
        .body(reqwest::Body::wrap_stream(body));
    let end = async {
        sleep(ACCEPT_PAUSE).await;
        assert_eq!(cache.abort("nar/a", &id).await, StatusCode::NO_CONTENT);
        send.send("late").unwrap();
    };
    let (response, ()) = tokio::join!(request.send(), end);
    assert_eq!(response.unwrap().status(), StatusCode::NOT_FOUND);
    assert!(cache.beside_the_bucket().is_empty());
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing_behind() {
    let cache = Fixture::start().await;
    let id = cache.begin("nar/a", &[]).await;
    cache.put_part("nar/a", &id, 1, Bytes::from("x")).await;
    assert_eq!(cache.abort("nar/a", &id).await, StatusCode::NO_CONTENT);
    assert_eq!(cache.abort("nar/a", &id).await, StatusCode::NOT_FOUND);
    assert!(cache.beside_the_bucket().is_empty());
}
