//! An S3 server that has nothing and deletes everything: what is measured is not its work.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};

/// Clients insist on it.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Bytes of a request: a thousand keys.
const MAX_BODY: usize = 4 * 1024 * 1024;

#[derive(Clone, Default)]
pub struct Stub {
    pub endpoint: String,
    /// Requests that deleted something, since they were last asked for.
    deletes: Arc<AtomicU64>,
    /// What was PUT: what the server writes of its own accord.
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl Stub {
    pub fn take_deletes(&self) -> u64 {
        self.deletes.swap(0, Ordering::Relaxed)
    }
}

pub async fn start() -> Stub {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let stub = Stub { endpoint, ..Stub::default() };
    let router = Router::new().fallback(answer).with_state(stub.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    stub
}

async fn answer(State(stub): State<Stub>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY).await.unwrap();
    let query = head.uri.query().unwrap_or_default();
    let key = head.uri.path().trim_start_matches('/');
    let key = key.split_once('/').map_or("", |(_, key)| key).to_owned();
    let is_list = query.split('&').any(|pair| pair == "list-type=2");
    match head.method {
        Method::POST => {
            stub.deletes.fetch_add(1, Ordering::Relaxed);
            deleted(&String::from_utf8_lossy(&body))
        }
        Method::DELETE => {
            stub.deletes.fetch_add(1, Ordering::Relaxed);
            StatusCode::NO_CONTENT.into_response()
        }
        Method::PUT => {
            stub.objects.lock().unwrap().insert(key, body);
            [(header::ETAG, "\"0\"")].into_response()
        }
        _ if is_list => stub.list(),
        _ => match stub.objects.lock().unwrap().get(&key) {
            Some(body) => body.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

impl Stub {
    fn list(&self) -> Response {
        let objects = self.objects.lock().unwrap();
        let keys = objects.keys().filter(|key| key.starts_with("generation/"));
        let keys = keys.map(|key| {
            format!(
                "<Contents><Key>{key}</Key><Size>1</Size><ETag>\"0\"</ETag>\
                 <LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <StorageClass>STANDARD</StorageClass></Contents>"
            )
        });
        let all: String = keys.collect();
        format!(
            "<ListBucketResult xmlns=\"{NAMESPACE}\"><Name>b</Name><Prefix></Prefix><KeyCount>0</KeyCount>\
             <MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{all}</ListBucketResult>"
        )
        .into_response()
    }
}

fn deleted(request: &str) -> Response {
    let keys = request.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
    let each: String =
        keys.map(|(key, _)| format!("<Deleted><Key>{key}</Key></Deleted>")).collect();
    format!("<DeleteResult xmlns=\"{NAMESPACE}\">{each}</DeleteResult>").into_response()
}
