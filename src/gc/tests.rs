use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use niks3_core::wire::{CacheSize, CollectProgress, CollectState, Collection, ErrorBody};

use super::*;
use crate::{
    api::{TokenSources, Tokens},
    push::Style,
};

type Answer = dyn Fn(&str, usize) -> Response + Send + Sync;

/// A server that answers as the test says, and what it was asked.
#[derive(Clone)]
struct Server {
    answer: Arc<Answer>,
    asked: Arc<Mutex<Vec<String>>>,
    bodies: Arc<Mutex<Vec<CollectRequest>>>,
}

impl Server {
    /// The n-th POST and the n-th GET, from 0 on, are answered by `answer`.
    async fn start(
        answer: impl Fn(&str, usize) -> Response + Send + Sync + 'static,
    ) -> (Self, Api) {
        let server =
            Self { answer: Arc::new(answer), asked: Arc::default(), bodies: Arc::default() };
        let routes =
            post(|State(server): State<Self>, Json(body): Json<CollectRequest>| async move {
                server.bodies.lock().unwrap().push(body);
                server.next("POST")
            })
            .get(|State(server): State<Self>| async move { server.next("GET") });
        let router = Router::new().route("/api/v1/gc", routes).with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        let token = TokenSources { plain: Some("t".into()), ..TokenSources::default() };
        (server, Api::new(url, Tokens::read(token).await.unwrap()).unwrap())
    }

    fn next(&self, method: &str) -> Response {
        let mut asked = self.asked.lock().unwrap();
        let n = asked.iter().filter(|asked| *asked == method).count();
        asked.push(method.to_owned());
        (self.answer)(method, n)
    }

    fn asked(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == method).count()
    }
}

const FAST: Pace = Pace { pause: Duration::from_millis(5), patience: Duration::from_millis(400) };

fn request() -> CollectRequest {
    CollectRequest { older_than: 10, failed_uploads_older_than: 20, force: false, dry_run: false }
}

fn run(number: u64, state: CollectState) -> Collection {
    Collection {
        number,
        parameters: request(),
        started_at: 1,
        finished_at: None,
        state,
        error: None,
        progress: CollectProgress::default(),
    }
}

fn begun(run: Collection) -> Response {
    (StatusCode::ACCEPTED, Json(run)).into_response()
}

fn shown(run: Collection) -> Response {
    let cache = CacheSize { objects: 3, bytes: 4 };
    Json(CollectStatus { collection: Some(run), cache }).into_response()
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(ErrorBody { error: error.to_owned() })).into_response()
}

async fn collected(api: &Api) -> (Result<CollectStatus, CollectError>, Option<u64>) {
    let mut show = Show::new(Style::Quiet);
    let ended = collect(api, &request(), FAST, &mut show).await;
    (ended, show.number())
}

#[tokio::test]
async fn a_run_is_started_and_followed_to_its_end() {
    use CollectState::{Finished, Running};
    let (server, api) = Server::start(|method, n| match (method, n) {
        ("POST", _) => begun(run(7, Running)),
        (_, 0..=2) => shown(run(7, Running)),
        _ => shown(run(7, Finished)),
    })
    .await;
    let (ended, number) = collected(&api).await;
    let status = ended.unwrap();
    assert_eq!(status.collection, Some(run(7, Finished)));
    assert_eq!(status.cache, CacheSize { objects: 3, bytes: 4 });
    assert_eq!((server.asked("POST"), server.asked("GET"), number), (1, 4, Some(7)));
    assert_eq!(*server.bodies.lock().unwrap(), [request()]);
}

#[tokio::test]
async fn a_run_that_failed_is_an_end_too() {
    let (_, api) = Server::start(|method, _| match method {
        "POST" => begun(run(1, CollectState::Running)),
        _ => shown(Collection { error: Some("no S3".into()), ..run(1, CollectState::Failed) }),
    })
    .await;
    let status = collected(&api).await.0.unwrap();
    assert_eq!(status.collection.unwrap().error.as_deref(), Some("no S3"));
}

#[tokio::test]
async fn another_run_under_way_is_told_in_the_servers_words_and_not_waited_for() {
    let text = "garbage collection 3 is under way with other parameters";
    let (server, api) = Server::start(|_, _| refused(StatusCode::CONFLICT, text)).await;
    let error = collected(&api).await.0.unwrap_err();
    assert!(matches!(error, CollectError::Busy(_)), "{error}");
    let causes = niks3_core::causes::causes(&error);
    assert!(causes[1].contains(text) && error.hint().unwrap().contains("wait"), "{causes:?}");
    assert_eq!(server.asked("POST"), 1);
}

#[tokio::test]
async fn an_interrupted_run_is_taken_up_again() {
    use CollectState::{Finished, Interrupted, Running};
    let (server, api) = Server::start(|method, n| match (method, n) {
        ("POST", n) => begun(run(1 + n as u64, Running)),
        (_, 0) => shown(run(1, Interrupted)),
        (_, 1) => shown(run(2, Running)),
        (_, 2) => shown(run(2, Interrupted)),
        _ => shown(run(3, Finished)),
    })
    .await;
    let status = collected(&api).await.0.unwrap();
    assert_eq!(status.collection.unwrap().number, 3);
    assert_eq!(server.asked("POST"), 3);
}

#[tokio::test]
async fn a_run_that_is_lost_each_time_is_given_up() {
    use CollectState::{Interrupted, Running};
    let (server, api) = Server::start(|method, _| match method {
        "POST" => begun(run(1, Running)),
        _ => shown(run(1, Interrupted)),
    })
    .await;
    let error = collected(&api).await.0.unwrap_err();
    assert!(matches!(error, CollectError::Lost { number: 1, restarts: 3, .. }), "{error}");
    assert!(error.to_string().contains("4th time"), "{error}");
    assert_eq!(server.asked("POST"), 4);
}

#[tokio::test]
async fn a_server_that_does_not_answer_for_a_while_is_asked_to_start_again() {
    use CollectState::{Finished, Running};
    let started = std::time::Instant::now();
    let (server, api) = Server::start(move |method, _| match method {
        "POST" => begun(run(1, Running)),
        _ if started.elapsed() < 2 * FAST.patience => {
            refused(StatusCode::SERVICE_UNAVAILABLE, "the database is not there")
        }
        _ => shown(run(1, Finished)),
    })
    .await;
    assert!(collected(&api).await.0.is_ok());
    assert!((2..=4).contains(&server.asked("POST")), "{}", server.asked("POST"));
}

#[tokio::test]
async fn a_refusal_in_between_is_not_taken_for_an_outage() {
    let (server, api) = Server::start(|method, _| match method {
        "POST" => begun(run(1, CollectState::Running)),
        _ => refused(StatusCode::FORBIDDEN, "this token may not look"),
    })
    .await;
    let error = collected(&api).await.0.unwrap_err();
    assert!(matches!(error, CollectError::Api(_)), "{error}");
    assert_eq!((server.asked("POST"), server.asked("GET")), (1, 1));
}

#[tokio::test]
async fn a_later_run_counts_only_if_it_does_the_same() {
    use CollectState::{Finished, Running};
    let (_, api) = Server::start(|method, n| match (method, n) {
        ("POST", _) => begun(run(5, Running)),
        (_, 0) => shown(run(6, Running)),
        _ => shown(run(6, Finished)),
    })
    .await;
    let (ended, number) = collected(&api).await;
    assert_eq!((ended.unwrap().collection.unwrap().number, number), (6, Some(6)));

    let (_, api) = Server::start(|method, _| match method {
        "POST" => begun(run(5, Running)),
        _ => {
            let mut other = run(6, Running);
            other.parameters.older_than = 0;
            shown(other)
        }
    })
    .await;
    let error = collected(&api).await.0.unwrap_err();
    assert!(matches!(error, CollectError::Unseen { ours: 5, shown: 6 }), "{error}");
}
