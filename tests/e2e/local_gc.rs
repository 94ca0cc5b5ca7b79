//! The local store is collected while a push reads it.

use std::{path::PathBuf, process::Stdio, time::Duration};

use crate::support::{Fault, Nix, NixStore, Run, S3Proxy, TestCache, each, run};

/// So large that what the memory of a push has room for is not all of them: they are still to be read
/// when the first is sent.
const PATHS: u64 = 6;
const PATH_BYTES: usize = 9 * 1024 * 1024;
const LITTLE_MEMORY: &str = "64MiB";

/// A daemon of the store's, until it is dropped.
struct Daemon {
    _daemon: tokio::process::Child,
    socket: PathBuf,
}

impl Daemon {
    async fn start(store: &NixStore) -> Self {
        let socket = PathBuf::from(store.root()).join("nix/var/nix/daemon-socket/socket");
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let mut daemon = store.program("nix-daemon");
        daemon.env("NIX_REMOTE", store.root()).env("NIX_DAEMON_SOCKET_PATH", &socket);
        daemon.stderr(Stdio::null()).kill_on_drop(true);
        let daemon = daemon.spawn().unwrap();
        for _ in 0..200 {
            if tokio::net::UnixStream::connect(&socket).await.is_ok() {
                return Self { _daemon: daemon, socket };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nix-daemon does not listen on {socket:?}");
    }
}

/// Pushes paths that no GC root keeps; once the first of them is being sent, `collect`s the store.
async fn push_and_collect(
    store: &NixStore,
    collect: impl AsyncFnOnce(),
) -> (TestCache, Vec<String>, Run) {
    let mut paths = Vec::new();
    for n in 0..PATHS {
        paths.push(store.add_noise(&format!("noise-{n}"), n, PATH_BYTES).await);
    }
    let (cache, proxy) = TestCache::behind_s3_proxy().await;
    proxy.set(each(|seen| seen.puts(".nar.zst"), Fault::Slow(4 * 1024 * 1024)));
    let mut args = vec!["--max-buffered".to_owned(), LITTLE_MEMORY.to_owned()];
    args.extend(paths.iter().cloned());
    let mut push = cache.command(store, "push", &args);
    push.env("RUST_LOG", "niks3=debug");
    let pushing = tokio::spawn(async move { run(&mut push).await });
    first_nar(&proxy).await;
    collect().await;
    let ended = pushing.await.unwrap();
    (cache, paths, ended)
}

async fn first_nar(proxy: &S3Proxy) {
    for _ in 0..600 {
        if proxy.most_in_flight() > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no NAR was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_keeps_what_is_pushed_until_it_is_pushed() {
    for nix in Nix::all() {
        let store = NixStore::new(nix);
        let unneeded = store.add_noise("unneeded", 99, 100).await;
        let daemon = Daemon::start(&store).await;
        let collect = async || {
            let url = format!("unix://{}", daemon.socket.display());
            let mut gc = store.program("nix-store");
            run(gc.args(["--gc", "--store", &url])).await.ok();
            assert!(!store.real(&unneeded).exists(), "nothing was collected");
        };
        let (cache, paths, pushed) = push_and_collect(&store, collect).await;
        let version = &nix.version;
        let pushed = pushed.ok();
        assert!(pushed.stderr.contains("keeps what is pushed"), "{version} {}", pushed.stderr);
        cache.assert_complete(&store, &paths).await;
        // No longer than that.
        store.run("nix-store", &["--gc", "--store", &store.root()]).await.ok();
        assert!(!store.real(&paths[0]).exists(), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_a_push_that_loses_a_path_says_which_and_publishes_nothing() {
    let store = NixStore::new(Nix::any());
    let collect = async || {
        store.run("nix-store", &["--gc", "--store", &store.root()]).await.ok();
    };
    let (cache, _, pushed) = push_and_collect(&store, collect).await;
    let said = ["cannot pack /nix/store/", "is gone", "hint: was the store collected meanwhile?"];
    let pushed = pushed.failed(5, &said);
    assert!(pushed.stderr.contains("may collect what is pushed"), "{}", pushed.stderr);
    cache.assert_consistent().await;
    assert_eq!(cache.bucket.keys_ending(".narinfo").await, Vec::<String>::new());
}
