//! How long garbage collection takes, and what it depends on: `scripts/bench gc --help`.
#![allow(missing_docs, clippy::unwrap_used)]

mod cache;
mod options;
mod pushes;
mod server;
mod stub;
mod tables;

use std::time::Duration;

use cache::{Cache, Cluster};
use niks3_server::dev::s3::{EmbeddedS3, S3Options};
use options::Options;
use server::{Bucket, Server};
use tables::{Marked, Run, Tables};

/// Paths of a block, each with three objects: see `cache.sql`.
const BLOCK: u64 = 1500;

/// How long pushes are measured alone.
const ALONE: Duration = Duration::from_secs(15);

/// What PostgreSQL may need to stop.
const STOPPING: Duration = Duration::from_secs(1);

/// What one run needs to know.
struct Case<'a> {
    name: &'a str,
    size: u64,
    /// How old the closures are that it is to find, in days.
    age: u32,
}

#[tokio::main]
async fn main() {
    let options = match Options::from_arguments() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: {why}; see scripts/bench gc --help");
            std::process::exit(2);
        }
    };
    let mut tables = Tables::default();
    tokio::select! {
        () = all(&options, &mut tables) => tables.print(),
        // All that runs is stopped, and what lies about removed, when it is dropped: so here.
        _ = tokio::signal::ctrl_c() => {
            eprintln!("interrupted; what was measured until then:");
            tables.print();
            tokio::time::sleep(STOPPING).await;
        }
    }
}

async fn all(options: &Options, tables: &mut Tables) {
    for size in &options.sizes {
        measure(options, *size, tables).await;
    }
    if options.real_objects > 0 {
        real_s3(options, tables).await;
    }
}

/// All cases on a cache of `size` objects.
async fn measure(options: &Options, size: u64, tables: &mut Tables) {
    let cluster = Cluster::start(options).await;
    say(&format!("{size} objects: loading"));
    let cache = cluster.cache(size, &options.garbage).await;
    let bucket = Bucket::Stub(stub::start().await);

    // Each garbage of its own age; the oldest goes first.
    let mut age = 1000;
    for blocks in options.garbage.iter().map(|garbage| garbage.div_ceil(BLOCK)) {
        let largest = blocks == options.garbage.iter().max().unwrap().div_ceil(BLOCK);
        cache.expire(blocks, age, size).await;
        cache.settle().await;
        if largest && options.mark {
            say("the classical mark");
            let (took, garbage) = cache.mark(age).await;
            tables.marks.push(Marked { size, asked: blocks * BLOCK, garbage, took });
        }
        collect(&cache, &bucket, Case { name: "spread over the cache", size, age }, tables).await;
        age -= 10;
    }
    let blocks = options.garbage.iter().max().unwrap().div_ceil(BLOCK);

    say("the same with stale statistics");
    cache.append(blocks, age, None).await;
    cache.make_statistics_stale().await;
    collect(&cache, &bucket, Case { name: "stale statistics", size, age }, tables).await;
    cache.settle().await;
    age -= 10;

    say("the same with a hot path that all of it needs");
    let hot = cache.append_hot().await;
    cache.append(blocks, age, Some(hot)).await;
    cache.settle().await;
    collect(&cache, &bucket, Case { name: "all need one path", size, age }, tables).await;
    age -= 10;

    if options.pushes {
        say("pushes alone, then during a collection");
        cache.append(blocks, age, None).await;
        cache.settle().await;
        let server = Server::start(&cache, &bucket).await;
        let pushers = pushes::Pushers::new(&cache, &server).await;
        pushers.during(tokio::time::sleep(Duration::from_secs(2))).await;
        let alone = pushers.during(tokio::time::sleep(ALONE)).await;
        let mut run = None;
        let during =
            pushers.during(async { run = Some(server.collect(&cache, &bucket, age).await) }).await;
        let name = "while others push".to_owned();
        tables.runs.push(Run { size, name, ..run.unwrap() });
        tables.pushes.push((size, alone, during));
        server.stop().await;
    }
    cluster.stop().await;
}

/// One collection by a server of its own.
async fn collect(cache: &Cache, bucket: &Bucket, case: Case<'_>, tables: &mut Tables) {
    let before = cache.cpu_of_sessions();
    let server = Server::start(cache, bucket).await;
    let run = server.collect(cache, bucket, case.age).await;
    server.stop().await;
    // Its sessions end when it has.
    tokio::time::sleep(STOPPING).await;
    let database_cpu = cache.cpu_of_sessions() - before;
    let run = Run { size: case.size, name: case.name.to_owned(), database_cpu, ..run };
    say(&format!("{run:?}\n{}", cache.statements().await));
    tables.runs.push(run);
}

/// The same on a bucket that really has the objects.
async fn real_s3(options: &Options, tables: &mut Tables) {
    let size = *options.sizes.iter().min().unwrap();
    say(&format!("{size} objects, an S3 server that has {} of them", options.real_objects));
    let cluster = Cluster::start(options).await;
    let cache = cluster.cache(size, &[options.real_objects]).await;
    let age = 1000;
    cache.expire(options.real_objects.div_ceil(BLOCK), age, size).await;
    cache.settle().await;
    let root = cluster.folder().join("s3");
    let files = cache.write_garbage(age, &root.join(server::BUCKET)).await;
    let s3 = EmbeddedS3::start(S3Options {
        root: root.clone(),
        buckets: vec![server::BUCKET.to_owned()],
        access_key: server::ACCESS_KEY.to_owned(),
        secret_key: server::SECRET_KEY.to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
    })
    .await
    .unwrap();
    let bucket = Bucket::Real(s3.endpoint());
    collect(&cache, &bucket, Case { name: "a real S3 server", size, age }, tables).await;
    let left = files.iter().filter(|file| file.exists()).count();
    assert_eq!(left, 0, "files that were to be deleted");
    s3.stop().await;
    cluster.stop().await;
}

/// What is being done, for whoever waits.
fn say(text: &str) {
    eprintln!("{text}");
}
