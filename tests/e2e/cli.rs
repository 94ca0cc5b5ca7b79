//! The habits of `nix copy`.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use crate::support::{Nix, NixStore, TOKEN, TestCache, client, fixture, run, shared_store, write};

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

async fn narinfos(cache: &TestCache) -> Vec<String> {
    cache.bucket.keys_ending(".narinfo").await
}

#[tokio::test(flavor = "multi_thread")]
async fn links_paths_inside_the_store_and_several_at_once_are_taken() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    let folder = roots.iter().find(|root| store.real(root).is_dir()).unwrap();
    let inside = std::fs::read_dir(store.real(folder)).unwrap().next().unwrap().unwrap();
    let inside = format!("{folder}/{}", inside.file_name().into_string().unwrap());
    let link = cache.dir.path().join("result");
    let other = roots.iter().find(|root| *root != folder).unwrap();
    std::os::unix::fs::symlink(other, &link).unwrap();
    cache.push(store, &[inside, link.to_str().unwrap().to_owned()]).await.ok();
    let there = narinfos(&cache).await;
    for root in [folder, other] {
        assert!(there.contains(&format!("{}.narinfo", &base_name(root)[..32])), "{root}");
    }
    let closures = "SELECT count(*) FROM closures";
    assert_eq!(cache.count(closures).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_and_all_paths_are_taken() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    let mut push = cache.command(store, "copy", &["--stdin".to_owned()]);
    push.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut push = push.spawn().unwrap();
    let lines = format!("{}\n\n  {}\n", roots[0], roots[1]);
    push.stdin.take().unwrap().write_all(lines.as_bytes()).await.unwrap();
    assert!(push.wait().await.unwrap().success());
    let closure = store.closure(&roots[..2]).await;
    assert_eq!(narinfos(&cache).await.len(), closure.len());

    cache.client(store, "copy", &["--all".to_owned()]).await.ok();
    assert_eq!(narinfos(&cache).await.len(), store.all_paths().await.len());
    cache.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flake_is_built_and_pushed() {
    let store = NixStore::new(Nix::any());
    let cache = TestCache::start().await;
    let flake = cache.dir.path().join("flake");
    write(
        &flake.join("flake.nix"),
        r#"{ outputs = _: { packages.x86_64-linux.hello = derivation {
             name = "hello"; system = "x86_64-linux"; builder = "/bin/sh";
             args = [ "-c" "echo hello > $out" ]; }; }; }"#,
    );
    let mut push = cache.command(&store, "push", &[".#hello".to_owned()]);
    push.current_dir(&flake);
    if std::env::consts::ARCH == "x86_64" {
        run(&mut push).await.ok();
        assert_eq!(narinfos(&cache).await.len(), 1);
    } else {
        run(&mut push).await.failed(5, &["hello"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_folder_of_its_own_works_and_another_cache_refuses_it() {
    let store = NixStore::new(Nix::any());
    let dir = store.dir.path();
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let settings = [
        ("NIX_STORE_DIR", at("store")),
        ("NIX_STATE_DIR", at("var/nix")),
        ("NIX_LOG_DIR", at("var/log/nix")),
    ];
    let mut build = store.program("nix-build");
    build.args(["--no-out-link", "-A", "all"]).arg(fixture()).envs(settings.clone());
    let built = run(&mut build).await.ok().stdout;
    let roots: Vec<&str> = built.lines().collect();
    assert!(roots[0].starts_with(&at("store")));

    let push = |cache: &TestCache| {
        let mut push = client(&store);
        push.args(["push", "--server-url", &cache.server.url()]).args(&roots);
        push.env("NIKS3_AUTH_TOKEN", TOKEN).envs(settings.clone());
        push
    };
    let other = TestCache::start().await;
    run(&mut push(&other)).await.failed(4, &["/nix/store", &at("store")]);
    assert_eq!(other.count("SELECT count(*) FROM uploads").await, 0);

    let options = crate::support::ServerOptions::args(&["--store-dir", &at("store")]);
    let cache = TestCache::start_with(options).await;
    run(&mut push(&cache)).await.ok();
    cache.assert_consistent().await;
    let info = cache.bucket.text("nix-cache-info").await;
    assert!(info.contains(&format!("StoreDir: {}\n", at("store"))), "{info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_comes_from_where_it_is_said_to_come_from() {
    let (store, roots) = shared_store().await;
    let cache = TestCache::start().await;
    let file = cache.dir.path().join("client-token");
    write(&file, &format!("{TOKEN}\n"));
    let config = cache.dir.path().join("config");
    write(&config.join("niks3/auth-token"), TOKEN);
    let (file, config) = (file.to_str().unwrap(), config.to_str().unwrap());
    let push = || {
        let mut push = client(store);
        push.args(["push", "--store", &store.root(), &roots[0]]);
        push.env("NIKS3_SERVER_URL", cache.server.url());
        push
    };
    run(push().args(["--auth-token-path", file])).await.ok();
    run(push().env("NIKS3_AUTH_TOKEN_FILE", file)).await.ok();
    run(push().env("NIKS3_AUTH_TOKEN", TOKEN)).await.ok();
    run(push().env("XDG_CONFIG_HOME", config)).await.ok();
    run(&mut push()).await.failed(2, &["no token", "hint:", "--auth-token-path"]);
    let missing = "/does/not/exist";
    let run = run(push().args(["--auth-token-path", missing])).await;
    run.failed(2, &[missing, "No such file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_and_the_version_are_told() {
    let store = NixStore::new(Nix::any());
    let help = run(client(&store).arg("--help")).await.ok().stdout;
    for part in ["niks3 copy --to URL", "niks3 push", "niks3 gc", "Exit codes"] {
        assert!(help.contains(part), "{help}");
    }
    for command in ["copy", "push", "gc", "pins", "closures"] {
        let help = run(client(&store).args([command, "--help"])).await.ok().stdout;
        assert!(help.contains(&format!("usage: niks3 {command}")), "{help}");
    }
    assert!(run(client(&store).arg("--version")).await.ok().stdout.starts_with("niks3 "));
    run(client(&store).arg("gc-now")).await.failed(2, &["no command", "gc-now"]);
    run(client(&store).args(["pins", "move"])).await.failed(2, &["create, list, delete"]);
}
