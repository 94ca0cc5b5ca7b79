use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    http::StatusCode as Status,
    response::{IntoResponse as _, Response},
    routing::any,
};
use niks3_core::wire::MetadataEncoding;

use super::*;
use crate::s3::{BucketLookup, Credentials, ObjectHeaders, S3Config, Times};

/// A bucket of which the n-th request, from 0 on, is answered with `answer(n)`; and how many came.
async fn bucket(answer: fn(usize) -> Response) -> (Bucket, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let serve = move || async move { answer(counter.fetch_add(1, Ordering::SeqCst)) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(any(serve))).await });
    let config = S3Config {
        endpoint,
        bucket: "cache".to_owned(),
        region: "r".to_owned(),
        lookup: BucketLookup::Path,
        credentials: Credentials { access_key: "a".to_owned(), secret_key: "s".to_owned() },
        concurrency: NonZeroUsize::new(8).unwrap(),
        times: Times { url_lifetime: Duration::from_secs(1800), slack: Duration::from_secs(90) },
        checksum: niks3_core::hash::ChecksumAlgorithm::Md5,
        metadata_encoding: MetadataEncoding::None,
        headers: ObjectHeaders::default(),
    };
    (config.open().unwrap(), asked)
}

fn slow_down() -> Response {
    (Status::SERVICE_UNAVAILABLE, "<Error><Code>SlowDown</Code></Error>").into_response()
}

#[tokio::test]
async fn what_s3_wants_more_slowly_is_asked_more_slowly_and_succeeds() {
    let (bucket, asked) = bucket(|n| if n < 3 { slow_down() } else { "it".into_response() }).await;
    // More tries than anything else gets.
    let body = bucket.get(&ObjectKey::CacheInfo).await.unwrap();
    assert_eq!(body.as_deref(), Some(b"it".as_slice()));
    assert_eq!(asked.load(Ordering::SeqCst), TRIES + 1);
    // Halved three times, to 1; then one success.
    assert_eq!(bucket.pace.limit(), 2);
}

#[tokio::test]
async fn a_burst_that_is_refused_halves_the_requests_at_once() {
    let (bucket, _) = bucket(|n| if n < 8 { slow_down() } else { "it".into_response() }).await;
    let gets = (0..8).map(|_| bucket.get(&ObjectKey::CacheInfo));
    for got in futures_util::future::join_all(gets).await {
        assert!(got.unwrap().is_some());
    }
    // Halved once; then each round of successes allows one more.
    assert!((4..=6).contains(&bucket.pace.limit()), "{}", bucket.pace.limit());
}

#[tokio::test]
async fn a_request_that_gets_no_turn_in_time_says_so_and_is_not_sent() {
    fn later(_: usize) -> Response {
        (Status::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "20")]).into_response()
    }
    let (bucket, asked) = bucket(later).await;
    let send = || {
        let url = || bucket.bucket.get_object(Some(&bucket.credentials), "k").sign(PATIENCE);
        let patience = Duration::from_millis(300);
        bucket.send(Method::GET, "k", url, &[], Bytes::new(), patience)
    };
    let refused = send().await.err().unwrap();
    assert!(matches!(refused, S3Error::Refused { .. }), "{refused}");
    // Nobody asks meanwhile, also who comes later.
    let waited = send().await.err().unwrap();
    assert!(matches!(waited, S3Error::NoTurn { .. }), "{waited}");
    assert_eq!(waited.verdict(), Verdict::SlowDown);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn other_failures_are_tried_some_times_and_refusals_once() {
    for (status, tries) in [(500, TRIES), (502, TRIES), (403, 1), (400, 1)] {
        let answer = match status {
            500 => |_| Status::INTERNAL_SERVER_ERROR.into_response(),
            502 => |_| Status::BAD_GATEWAY.into_response(),
            403 => |_| Status::FORBIDDEN.into_response(),
            _ => |_: usize| Status::BAD_REQUEST.into_response(),
        };
        let (bucket, asked) = bucket(answer).await;
        let error = bucket.get(&ObjectKey::CacheInfo).await.unwrap_err();
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(asked.load(Ordering::SeqCst), tries, "{status}");
        assert_eq!(bucket.pace.limit(), 8);
    }
}
