//! S3 behind a bad line: an HTTP/1.1 proxy that client and server take for their S3 endpoint, and
//! that does to each request what the test says.
//!
//! Heads and bodies go through byte by byte, the `Host` included, so that signatures hold and a
//! Content-Length stays one. Only `Connection` is the proxy's own: each request has a connection
//! to S3 for itself.

mod exchange;
mod fault;
mod head;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::net::{TcpListener, TcpStream};

pub use fault::{Fault, each, first, first_try};

use super::parts::parts;

/// A request, as a rule sees it before anything is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    /// Without the bucket.
    pub key: String,
    /// What the signature does not bring: `uploads`, `uploadId`, `partNumber`, `list-type`.
    pub query: BTreeMap<String, String>,
    /// The length of its body.
    pub bytes: u64,
    /// Requests before it with the same method, key and query: 0 for a first try.
    pub earlier: usize,
}

impl Seen {
    /// Whether it writes a whole object whose key ends so.
    pub fn puts(&self, suffix: &str) -> bool {
        self.method == "PUT" && self.query.is_empty() && self.key.ends_with(suffix)
    }
}

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Record {
    pub seen: Seen,
    /// What S3 said, if it was asked and did answer.
    pub s3: Option<u16>,
    /// What the sender was told, if anything.
    pub answered: Option<u16>,
}

type Rule = dyn Fn(&Seen) -> Fault + Send + Sync;

/// The proxy. It lives as long as the test's runtime.
#[derive(Clone)]
pub struct S3Proxy {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    s3: String,
    rule: Mutex<Arc<Rule>>,
    tries: Mutex<HashMap<String, usize>>,
    log: Mutex<Vec<Record>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl S3Proxy {
    /// Before the S3 of this run; without faults until [`Self::set`].
    pub async fn start() -> Self {
        let endpoint: url::Url = parts().s3.endpoint.parse().unwrap();
        let s3 = format!("{}:{}", endpoint.host_str().unwrap(), endpoint.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            s3,
            rule: Mutex::new(Arc::new(|_: &Seen| Fault::None)),
            tries: Mutex::default(),
            log: Mutex::default(),
            in_flight: AtomicUsize::default(),
            most_in_flight: AtomicUsize::default(),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                // An error is an end: of the sender, or one that the rule asked for.
                tokio::spawn(async move { drop(serve(&shared, stream).await) });
            }
        });
        Self { address, shared }
    }

    /// What `--s3-endpoint` takes.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this happens to requests. Those that are under way are not touched.
    pub fn set(&self, rule: impl Fn(&Seen) -> Fault + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Arc::new(rule);
    }

    /// The line is good again.
    pub fn heal(&self) {
        self.set(|_| Fault::None);
    }

    /// All requests that have ended, in that order.
    pub fn log(&self) -> Vec<Record> {
        self.shared.log.lock().unwrap().clone()
    }

    /// How many of them are so.
    pub fn count(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.log().iter().filter(|record| wanted(record)).count()
    }

    /// The most requests that were under way at one time.
    pub fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::Relaxed)
    }
}

/// A request under way, counted and then logged.
struct UnderWay<'a> {
    shared: &'a Shared,
    record: Record,
    ended: bool,
}

impl<'a> UnderWay<'a> {
    fn new(shared: &'a Shared, seen: Seen) -> Self {
        let now = shared.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_in_flight.fetch_max(now, Ordering::Relaxed);
        Self { shared, record: Record { seen, s3: None, answered: None }, ended: false }
    }

    /// To be called before the sender can know that its request is done: else its next one comes
    /// while this one still counts, and whoever looks into the log misses it.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.shared.log.lock().unwrap().push(self.record.clone());
            self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// One connection: its requests, one after the other.
async fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut sender = tokio::io::BufReader::new(stream);
    while let Some(head) = head::read(&mut sender).await? {
        let mut request = UnderWay::new(shared, shared.see(&head));
        let rule = Arc::clone(&shared.rule.lock().unwrap());
        let fault = rule(&request.record.seen);
        if !exchange::carry(&shared.s3, &mut sender, &head, fault, &mut request).await? {
            break;
        }
    }
    Ok(())
}

impl Shared {
    fn see(&self, head: &head::Head) -> Seen {
        let (method, target) = head.request_line();
        let url: url::Url = format!("http://proxy{target}").parse().unwrap();
        let key = url.path().trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let query: BTreeMap<String, String> = url
            .query_pairs()
            .into_owned()
            .filter(|(name, _)| !name.to_ascii_lowercase().starts_with("x-amz-"))
            .collect();
        let mut tries = self.tries.lock().unwrap();
        let tries = tries.entry(format!("{method} {key} {query:?}")).or_default();
        let earlier = *tries;
        *tries += 1;
        let bytes = head.content_length().unwrap_or_default();
        Seen { method: method.to_owned(), key: key.to_owned(), query, bytes, earlier }
    }
}
