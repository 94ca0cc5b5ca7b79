use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};

use super::{token::test_script, *};

/// A server that answers the n-th request, from 0 on, by its token; and how many came.
async fn server(
    answer: impl Fn(usize, &str) -> Response + Clone + Send + Sync + 'static,
) -> (Url, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let serve = move |headers: HeaderMap| async move {
        let token = headers[header::AUTHORIZATION].to_str().unwrap().replace("Bearer ", "");
        answer(counter.fetch_add(1, Ordering::SeqCst), &token)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(serve)).await });
    (url, asked)
}

fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn unauthorized() -> Response {
    let error = "the bearer token is not valid here".to_owned();
    (StatusCode::UNAUTHORIZED, Json(ErrorBody { error })).into_response()
}

/// A script that prints `token-1` when it is run first, then `token-2`, and so on.
async fn counting(dir: &Path, base: Url) -> Api {
    let text = "cd $(dirname $0); echo >> runs; echo token-$(wc -l < runs)";
    let script = Some(test_script(dir, "script", text));
    api(TokenSources { script, ..TokenSources::default() }, base).await
}

async fn api(sources: TokenSources, base: Url) -> Api {
    Api::new(base, Tokens::read(sources).await.unwrap()).unwrap()
}

fn runs(dir: &Path) -> usize {
    std::fs::read_to_string(dir.join("runs")).unwrap().lines().count()
}

fn id() -> UploadId {
    UploadId::from_random([0; 24])
}

#[tokio::test]
async fn calls_that_meet_an_expired_token_read_it_again_once_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let (url, asked) =
        server(|_, token| if token == "token-2" { done() } else { unauthorized() }).await;
    let api = counting(dir.path(), url).await;
    let id = id();
    let calls = (0..20).map(|_| api.commit(&id));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.unwrap(), Commit::Done);
    }
    assert_eq!(runs(dir.path()), 2);
    assert!((21..=40).contains(&asked.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn a_file_that_has_been_written_anew_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "old").unwrap();
    let (url, _) = server(|_, token| if token == "new" { done() } else { unauthorized() }).await;
    let api = api(TokenSources { file: Some(file.clone()), ..TokenSources::default() }, url).await;
    std::fs::write(&file, "new\n").unwrap();
    assert_eq!(api.commit(&id()).await.unwrap(), Commit::Done);
}

#[tokio::test]
async fn an_unchanged_token_is_not_sent_twice_and_the_error_says_what_to_do() {
    let (url, asked) = server(|_, _| unauthorized()).await;
    let api = api(TokenSources { plain: Some("old".into()), ..TokenSources::default() }, url).await;
    let error = api.commit(&id()).await.unwrap_err();
    assert!(error.to_string().contains("401 Unauthorized: the bearer token is not"), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("--auth-token-script") && hint.contains("expired"), "{hint}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_takes_no_token_is_not_asked_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (url, asked) = server(|_, _| unauthorized()).await;
    let api = counting(dir.path(), url).await;
    for _ in 0..5 {
        assert!(api.commit(&id()).await.unwrap_err().is_unauthorized());
    }
    // The first call with both, the others with the second.
    assert_eq!((asked.load(Ordering::SeqCst), runs(dir.path())), (6, 2));
}

#[tokio::test]
async fn a_script_that_fails_when_it_is_run_again_is_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = server(|_, _| unauthorized()).await;
    let text = "cd $(dirname $0); echo >> runs; echo secret; test $(wc -l < runs) = 1";
    let script = Some(test_script(dir.path(), "script", text));
    let api = api(TokenSources { script, ..TokenSources::default() }, url).await;
    let error = api.commit(&id()).await.unwrap_err();
    let causes = niks3_core::causes::causes(&error);
    assert_eq!(causes.len(), 3, "{causes:?}");
    assert!(causes[0].contains("401") && causes[1].contains("script"), "{causes:?}");
    assert_eq!(causes[2], "it ended with exit status: 1");
    assert!(!causes.concat().contains("secret"));
}

#[tokio::test]
async fn a_server_that_restarts_is_waited_for() {
    let (url, asked) = server(|n, _| match n {
        1 => StatusCode::BAD_GATEWAY.into_response(),
        2 => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")]).into_response(),
        _ => done(),
    })
    .await;
    let api = api(TokenSources { plain: Some("t".into()), ..TokenSources::default() }, url).await;
    for _ in 0..2 {
        assert_eq!(api.commit(&id()).await.unwrap(), Commit::Done);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_server_that_was_never_there_is_not_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let api = api(TokenSources { plain: Some("t".into()), ..TokenSources::default() }, url).await;
    let started = Instant::now();
    assert!(matches!(api.commit(&id()).await, Err(ApiError::Unreachable { .. })));
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// A server that answers by the method and what follows the host, and what it was asked.
async fn rest(
    answer: impl Fn(usize, &str) -> Response + Clone + Send + Sync + 'static,
) -> (Api, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let serve = move |method: Method, uri: axum::http::Uri, body: String| async move {
        let call = format!("{method} {uri} {body}").trim_end().to_owned();
        let mut log = log.lock().unwrap();
        let answer = answer(log.len(), &call);
        log.push(call);
        answer
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(serve)).await });
    (api(TokenSources { plain: Some("t".into()), ..TokenSources::default() }, url).await, asked)
}

fn not_found() -> Response {
    let error = "there is no such pin".to_owned();
    (StatusCode::NOT_FOUND, Json(ErrorBody { error })).into_response()
}

#[tokio::test]
async fn pins_are_made_listed_page_by_page_and_removed() {
    const PATH: &str = "4ml2s260zpvzdqanvhnk8pr4r9dj5k1k-multi";
    let pin = |name: &str| serde_json::json!({"name": name, "path": PATH, "moved_at": 1});
    let (api, asked) = rest(move |n, _| match n {
        0 => Json(pin("main")).into_response(),
        1 => Json(serde_json::json!({"pins": [pin("a"), pin("b")], "next": "b"})).into_response(),
        2 => Json(serde_json::json!({"pins": [pin("c")]})).into_response(),
        _ => done(),
    })
    .await;
    let name = "main".parse().unwrap();
    assert_eq!(api.pin(&name, &PATH.parse().unwrap()).await.unwrap().name, name);
    let names: Vec<String> =
        api.pins().await.unwrap().iter().map(|pin| pin.name.to_string()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    api.delete_pin(&name).await.unwrap();
    let put = format!(r#"PUT /base/api/v1/pins/main {{"path":"{PATH}"}}"#);
    let calls = [
        put.as_str(),
        "GET /base/api/v1/pins",
        "GET /base/api/v1/pins?after=b",
        "DELETE /base/api/v1/pins/main",
    ];
    assert_eq!(*asked.lock().unwrap(), calls);
}

#[tokio::test]
async fn closures_are_listed_page_by_page_and_a_page_that_repeats_itself_ends_the_list() {
    let golden = include_str!("../../core/tests/golden/closures-response.json");
    let page: serde_json::Value = serde_json::from_str(golden).unwrap();
    let (api, asked) = rest(move |_, _| Json(page.clone()).into_response()).await;
    assert_eq!(api.closures().await.unwrap().len(), 2);
    let hash = "1zn167q3a86nxjcbbbbhaa6xcbakv8gz";
    let calls =
        ["GET /base/api/v1/closures".to_owned(), format!("GET /base/api/v1/closures?after={hash}")];
    assert_eq!(*asked.lock().unwrap(), calls);
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_has_been_done() {
    let (api, asked) = rest(|n, _| match n {
        0 => StatusCode::BAD_GATEWAY.into_response(),
        _ => not_found(),
    })
    .await;
    let hash = "1zn167q3a86nxjcbbbbhaa6xcbakv8gz".parse().unwrap();
    api.delete_closure(&hash).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 2);
    // Without such an answer before, there was nothing to delete.
    let error = api.delete_closure(&hash).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(api.closure(&hash).await.unwrap_err().is_not_found());
}
