//! Pushes that plan a closure again and again: most of it is there, a quarter is new.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{cache::Cache, server::Server};

/// Pushes at once.
const PUSHERS: usize = 2;
/// Between the answer to one plan and the next: a push has more to do than to plan.
const PAUSE: Duration = Duration::from_millis(200);
/// Closures that they begin with: 1,500 paths each, with the core.
const CLOSURES: i64 = 20;
/// Paths that are new in each plan.
const NEW: u64 = 500;

pub struct Pushers<'a> {
    server: &'a Server,
    /// Paths of known closures, as a plan has them.
    known: Vec<Vec<Value>>,
    count: AtomicU64,
}

impl<'a> Pushers<'a> {
    pub async fn new(cache: &Cache, server: &'a Server) -> Self {
        let roots = format!(
            "SELECT object_id FROM (SELECT object_id, row_number() OVER (ORDER BY object_id) AS n, \
               count(*) OVER () AS all FROM closures WHERE pushed_at > now() - interval '500 days') c \
             WHERE n % greatest(1, c.all / {CLOSURES}) = 0 LIMIT {CLOSURES}"
        );
        let mut known = Vec::new();
        for root in cache.client().query(&roots, &[]).await.unwrap() {
            known.push(closure(cache, root.get(0)).await);
        }
        Self { server, known, count: AtomicU64::new(0) }
    }

    /// Pushes until `end` is ready. Answers how many milliseconds each plan took, sorted.
    pub async fn during(&self, end: impl Future) -> Vec<f64> {
        let taken = Mutex::new(Vec::new());
        let pushers = futures_util::future::join_all((0..PUSHERS).map(|_| self.push(&taken)));
        tokio::select! {
            _ = end => {}
            _ = pushers => unreachable!("they go on"),
        }
        let mut taken = taken.into_inner().unwrap();
        taken.sort_unstable_by(f64::total_cmp);
        taken
    }

    async fn push(&self, taken: &Mutex<Vec<f64>>) {
        loop {
            let plan = self.plan().to_string();
            let started = Instant::now();
            let answer = self.server.post("uploads", plan).await;
            taken.lock().unwrap().push(started.elapsed().as_secs_f64() * 1000.0);
            let id = answer["upload"]["id"].as_str().unwrap();
            self.server.delete(&format!("uploads/{id}")).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn plan(&self) -> Value {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut paths = self.known[count as usize % self.known.len()].clone();
        let known = paths.len() as u64;
        for n in 0..NEW {
            // Two numbers make a hash that no other path has: of those here all have letters.
            let name = format!("{:016}{:016}-new", count, n);
            // The last one is the root, which needs all.
            let references: Vec<u64> = match n + 1 {
                NEW => (0..known + n).collect(),
                _ => (1..6).map(|r| (known + n) * r / 6).collect(),
            };
            paths.push(json!({
                "path": name,
                "nar_hash": format!("sha256:1{:035}{:016}", count, n),
                "nar_size": 112,
                "references": references,
            }));
        }
        json!({"store_dir": "/nix/store", "roots": [paths.len() - 1], "paths": paths})
    }
}

/// A block and the core, as a plan has them.
async fn closure(cache: &Cache, root: i64) -> Vec<Value> {
    let narinfos = "SELECT object_id, store_path, nar_hash FROM narinfos \
                    WHERE object_id <= 1000 OR object_id BETWEEN $1::bigint - 499 AND $1 ORDER BY object_id";
    let rows = cache.client().query(narinfos, &[&root]).await.unwrap();
    let place: HashMap<i64, usize> =
        rows.iter().enumerate().map(|(place, row)| (row.get(0), place)).collect();
    let mut references = vec![Vec::new(); rows.len()];
    let refs = "SELECT src, dst FROM refs WHERE src <= 1000 OR src BETWEEN $1::bigint - 499 AND $1";
    for row in cache.client().query(refs, &[&root]).await.unwrap() {
        let (src, dst): (i64, i64) = (row.get(0), row.get(1));
        if let Some(to) = place.get(&dst) {
            references[place[&src]].push(*to);
        }
    }
    let paths = rows.iter().zip(references);
    paths
        .map(|(row, references)| {
            json!({
                "path": row.get::<_, &str>(1),
                "nar_hash": format!("sha256:{}", row.get::<_, &str>(2)),
                "nar_size": 112,
                "references": references,
            })
        })
        .collect()
}
