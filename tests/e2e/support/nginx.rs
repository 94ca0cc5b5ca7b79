//! A real nginx before the bucket, as people have one, and a hop that decodes zstd, which nginx cannot.

use std::{process::Stdio, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Uri, header},
    routing::get,
};
use tokio::process::{Child, Command};

use super::{parts::http, write};

/// Tries to start on a port that was free a moment ago.
const TRIES: usize = 5;

/// How long one may take until it answers.
const START_BOUND: Duration = Duration::from_secs(20);

/// It ends with the test.
pub struct Nginx {
    child: Child,
    _dir: tempfile::TempDir,
    address: String,
}

impl Nginx {
    /// Before the server that `origin` is on, with these settings of its `location`. There is a cache `niks3`.
    pub async fn before(origin: &str, settings: &str) -> Self {
        let origin: url::Url = origin.parse().unwrap();
        let origin = format!("http://{}:{}", origin.host_str().unwrap(), origin.port().unwrap());
        for _ in 0..TRIES {
            let dir = tempfile::tempdir().unwrap();
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap().to_string();
            drop(free);
            let conf = dir.path().join("nginx.conf");
            write(&conf, &configuration(&address, &origin, settings));
            // One process, so that none is left when it is killed.
            let mut nginx = Command::new("nginx");
            let path = std::env::var("PATH").unwrap_or_default();
            nginx.env("PATH", format!("{path}:/usr/sbin")).arg("-p").arg(dir.path());
            nginx.arg("-c").arg(&conf).args(["-e", "stderr"]).stderr(Stdio::inherit());
            let child = nginx.kill_on_drop(true).spawn();
            let child = child.expect("no nginx: install nginx-light, or run scripts/test");
            let mut nginx = Self { child, _dir: dir, address };
            if nginx.answers().await {
                return nginx;
            }
        }
        panic!("nginx does not start; its messages are above");
    }

    async fn answers(&mut self) -> bool {
        let started = std::time::Instant::now();
        while started.elapsed() < START_BOUND {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if tokio::net::TcpStream::connect(&self.address).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// What `reader` is through it.
    pub fn url(&self, reader: &str) -> String {
        let reader: url::Url = reader.parse().unwrap();
        format!("http://{}{}", self.address, reader.path().trim_end_matches('/'))
    }
}

fn configuration(address: &str, origin: &str, settings: &str) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; worker_processes 1;
         events {{ worker_connections 1000; }}
         http {{
           access_log off;
           client_body_temp_path body; proxy_temp_path proxy;
           fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
           proxy_cache_path cache keys_zone=niks3:1m;
           server {{
             listen {address};
             location / {{ proxy_pass {origin}; proxy_http_version 1.1; {settings} }}
           }}
         }}"
    )
}

/// What a CDN does that decodes: zstd bodies before `origin` become plain ones without the header. Its address.
pub async fn decoding_hop(origin: &str) -> String {
    let origin: url::Url = origin.parse().unwrap();
    let pass = move |uri: Uri| {
        let url = origin.join(uri.path()).unwrap();
        async move {
            let answer = http().get(url).send().await.unwrap();
            let status = answer.status();
            let mut headers = HeaderMap::new();
            for name in [header::CONTENT_TYPE, header::CACHE_CONTROL] {
                if let Some(value) = answer.headers().get(&name) {
                    headers.insert(name, value.clone());
                }
            }
            let encoded = answer.headers().get(header::CONTENT_ENCODING).is_some();
            let body = answer.bytes().await.unwrap().to_vec();
            let body = if encoded { zstd::decode_all(body.as_slice()).unwrap() } else { body };
            (status, headers, Body::from(body))
        }
    };
    let app = Router::new().fallback(get(pass));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}
