//! The server itself: starting, stopping, who may call.

use std::time::Duration;

use crate::support::{
    Bucket, NixStore, TestCache, arguments, create_database, http, program, run, shared_store,
};

#[tokio::test(flavor = "multi_thread")]
async fn only_health_needs_no_token() {
    let cache = TestCache::start().await;
    let call = |method: &str, path: &str, token: Option<&str>| {
        let url = format!("{}{path}", cache.server.url());
        let method = method.parse().unwrap();
        let mut request = http().request(method, url).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        async move {
            let answer = request.body("{}").send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    let (status, body) = call("GET", "/health", None).await;
    assert_eq!((status, body.as_str()), (200, r#"{"database":"ok","bucket":"ok"}"#));
    for (method, path) in [
        ("POST", "/api/v1/uploads"),
        ("POST", "/api/v1/uploads/x/urls"),
        ("POST", "/api/v1/uploads/x/stored"),
        ("POST", "/api/v1/uploads/x/commit"),
        ("DELETE", "/api/v1/uploads/x"),
        ("GET", "/api/v1/pins"),
        ("PUT", "/api/v1/pins/x"),
        ("DELETE", "/api/v1/pins/x"),
        ("GET", "/api/v1/closures"),
        ("GET", "/api/v1/closures/x"),
        ("DELETE", "/api/v1/closures/x"),
    ] {
        for token in [None, Some("Bearer wrong"), Some("Basic x"), Some("Bearer ")] {
            let (status, body) = call(method, path, token).await;
            assert_eq!(status, 401, "{method} {path} {token:?}: {body}");
        }
    }
    let (status, _) = call("GET", "/api/v1/nothing", None).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_well_and_another_start_goes_on() {
    let (store, roots) = shared_store().await;
    let mut cache = TestCache::start().await;
    cache.push(store, roots).await.ok();
    assert_eq!(cache.server.terminate().await, Some(0));
    cache.server.restart().await;
    let again = cache.push(store, roots).await.ok();
    assert!(again.stderr.contains("nothing to send"), "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_may_start_on_one_empty_database_at_once() {
    let (database, bucket) = (create_database().await, Bucket::create().await);
    let dir = tempfile::tempdir().unwrap();
    let args = arguments(dir.path(), &database, bucket.name());
    let migrate = || async {
        let mut command = program();
        run(command.arg("migrate").args(&args)).await.ok().stdout
    };
    let applied = tokio::join!(migrate(), migrate(), migrate(), migrate());
    let applied = [applied.0, applied.1, applied.2, applied.3];
    let who = applied.iter().filter(|out| out.contains("V1__objects_and_uploads")).count();
    assert_eq!(who, 1, "one of them applied it: {applied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_refused() {
    let cache = TestCache::start().await;
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                 VALUES (9999, 'from_the_future', '2026-01-01T00:00:00Z', '1')";
    cache.sql().await.batch_execute(newer).await.unwrap();
    let args = arguments(cache.dir.path(), &cache.database, cache.bucket.name());
    let mut command = program();
    run(command.arg("migrate").args(&args)).await.failed(1, &["newer than this server", "9999"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_another_store_directory_is_refused_with_both_names() {
    let (database, bucket) = (create_database().await, Bucket::create().await);
    bucket.put("nix-cache-info", "StoreDir: /gnu/store\n").await;
    let dir = tempfile::tempdir().unwrap();
    let args = arguments(dir.path(), &database, bucket.name());
    let mut command = program();
    command.args(&args).args(["--http-addr", "127.0.0.1:0"]);
    run(&mut command).await.failed(1, &["/gnu/store", "/nix/store", "--store-dir"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_cannot_use_is_said_at_start() {
    let (database, bucket) = (create_database().await, Bucket::create().await);
    let dir = tempfile::tempdir().unwrap();
    let started = |database: &str, bucket: &str, secret: Option<&str>| {
        let mut args = arguments(dir.path(), database, bucket);
        if let Some(secret) = secret {
            std::fs::write(dir.path().join("s3-secret"), secret).unwrap();
        }
        args.extend(["--http-addr".to_owned(), "127.0.0.1:0".to_owned()]);
        async move { run(program().args(&args)).await }
    };
    let missing = started(&database, "no-such-bucket", None).await;
    missing.failed(1, &["no-such-bucket", "--s3-bucket", "NoSuchBucket"]);
    let refused = started(&database, bucket.name(), Some("wrong")).await;
    refused.failed(1, &["403", "--s3-bucket"]);
    let no_database = started("no_such_database", bucket.name(), None).await;
    no_database.failed(1, &["--db", "no_such_database"]);
    let mut bare = program();
    run(&mut bare).await.failed(2, &["--db (NIKS3_DB) is missing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_said_and_nothing_breaks() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    let admin = crate::support::connect("postgres").await;
    let name = &cache.database;
    let down = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    admin.batch_execute(&down).await.unwrap();
    // Its last look is good for some seconds.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let health = http().get(format!("{}/health", cache.server.url())).send().await.unwrap();
    assert_eq!(health.status(), 503);
    assert_eq!(health.text().await.unwrap(), r#"{"database":"unreachable","bucket":"ok"}"#);
    cache.push(store, roots).await.failed(3, &["503", "cannot reach its database"]);
    admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.unwrap();
    cache.push(store, roots).await.ok();
    cache.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_gone_is_said_and_nothing_is_committed() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    cache.bucket.remove().await;
    let run = cache.push(store, roots).await;
    if run.code == Some(0) && !crate::support::embedded_s3() {
        // SeaweedFS makes the bucket anew with the first object.
        cache.bucket.assert_consistent().await;
        return;
    }
    assert_eq!(run.code, Some(4), "{}", run.stderr);
    assert!(run.stderr.contains("NoSuchBucket") || run.stderr.contains("404"), "{}", run.stderr);
    assert_eq!(cache.count("SELECT count(*) FROM closures").await, 0);
    assert_eq!(cache.count("SELECT count(*) FROM holds").await, 0);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let health = http().get(format!("{}/health", cache.server.url())).send().await.unwrap();
    assert_eq!(health.status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log_even_with_debug() {
    let (store, roots) = shared_store().await;
    let options = crate::support::ServerOptions::args(&["--debug"]);
    let cache = TestCache::start_with(options).await;
    let pushed = cache.push(store, roots).await.ok();
    let log = cache.server.log();
    assert!(log.contains("/api/v1/uploads"), "the log shows calls: {log}");
    for secret in [crate::support::TOKEN, "X-Amz-Signature", "P3IA3lXplG9zVhw1", "test-secret-key"]
    {
        assert!(!log.contains(secret) && !pushed.stderr.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cache_comes_up_with_no_set_up_and_keeps_its_state() {
    let (store, roots) = shared_store().await;
    let dir = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let state = dir.path().join("state");
    let mut sent = Vec::new();
    for _ in 0..2 {
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut dev = program();
        dev.args(["dev", "--http-addr", "127.0.0.1:0", "--s3-addr", "127.0.0.1:0", "--state-dir"]);
        dev.arg(&state).stdout(log).stderr(std::process::Stdio::null()).kill_on_drop(true);
        let mut dev = dev.spawn().unwrap();
        let said = loop {
            let said = std::fs::read_to_string(dir.path().join("log")).unwrap();
            if said.contains("extra-trusted-public-keys") {
                break said;
            }
            assert!(dev.try_wait().unwrap().is_none(), "it ended: {said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let after = |mark: &str| {
            let rest = said.split_once(mark).unwrap().1.trim_start();
            rest.split_whitespace().next().unwrap().to_owned()
        };
        let (server, token) = (after("--server-url"), after("--auth-token-path"));
        let (cache, key) = (after("extra-substituters ="), after("extra-trusted-public-keys ="));
        // The server answers once it has prepared database and bucket.
        while http().get(format!("{server}/health")).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut push = crate::support::client(store);
        push.args(["push", "--server-url", &server, "--auth-token-path", &token]);
        push.args(["--store", &store.root()]).args(roots);
        sent.push(run(&mut push).await.ok().stderr);

        let reader = NixStore::new(&store.nix);
        let mut copy = reader.program("nix");
        copy.args(["copy", "--from", &cache, "--to", &reader.root()]).args(roots);
        run(copy.args(["--option", "trusted-public-keys", &key])).await.ok();

        crate::support::signal(&dev, rustix::process::Signal::INT);
        assert_eq!(dev.wait().await.unwrap().code(), Some(0));
    }
    assert!(sent[0].contains("sent") && sent[1].contains("nothing to send"), "{sent:?}");
}
