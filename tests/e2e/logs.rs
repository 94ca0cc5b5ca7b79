//! Build logs: what `nix log` shows where a path was built, it shows where it is read.

use std::path::{Path, PathBuf};

use niks3_core::limits::MAX_LOG_BYTES;

use crate::support::{Nix, NixStore, ServerOptions, TestCache, fixture};

/// The files of all build logs of a store.
fn log_files(store: &NixStore) -> Vec<PathBuf> {
    let drvs = PathBuf::from(format!("{}/nix/var/log/nix/drvs", store.root()));
    let folders = std::fs::read_dir(drvs).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

/// What Nix shows of a build log in a store.
pub async fn nix_log(reader: &NixStore, store: &str, path: &str) -> String {
    // `nix log` of 2.8 wants the derivation itself to be in the store.
    let shown = if reader.nix.is_old() && path.ends_with(".drv") {
        reader.run("nix-store", &["--read-log", "--store", store, path]).await
    } else {
        reader.run("nix", &["log", "--store", store, path]).await
    };
    shown.ok().stdout
}

async fn deriver(store: &NixStore, path: &str) -> String {
    let asked = store.run("nix-store", &["--store", &store.root(), "-qd", path]).await.ok();
    asked.stdout.trim().to_owned()
}

/// `program` alone, in a store of its own, and the file of its log.
async fn program(nix: &Nix) -> (NixStore, Vec<String>, PathBuf) {
    let store = NixStore::new(nix);
    let roots = store.build(&fixture(), &["-A", "program"]).await;
    let files = log_files(&store);
    let file = files.into_iter().find(|file| file.to_str().unwrap().contains("-program-")).unwrap();
    (store, roots, file)
}

/// What a broken log leads to: a warning. Then it is mended, and the next push brings it.
async fn assert_warned(change: impl FnOnce(&Path), why: &[&str]) {
    let (store, roots, file) = program(Nix::any()).await;
    let (cache, whole) = (TestCache::start().await, std::fs::read(&file).unwrap());
    change(&file);
    let pushed = cache.push(&store, &roots).await.ok();
    assert!(pushed.stderr.contains("warning: the build log of "), "{}", pushed.stderr);
    for part in why {
        assert!(pushed.stderr.contains(part), "{part:?} is not in {}", pushed.stderr);
    }
    assert!(cache.bucket.narinfo_of(&roots[0]).await.contains_key("NarHash"));
    assert!(cache.log_keys().await.iter().all(|key| !key.contains("program")));
    std::fs::write(&file, whole).unwrap();
    let again = cache.push(&store, &roots).await.ok();
    assert!(again.stderr.contains(", 1 build log sent"), "{}", again.stderr);
    let again = cache.push(&store, &roots).await.ok();
    assert!(again.stderr.contains("nothing to send"), "{}", again.stderr);
}

impl TestCache {
    async fn log_keys(&self) -> Vec<String> {
        let keys = self.bucket.keys().await.into_iter();
        keys.filter(|key| key.starts_with("log/")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nix_log_shows_from_the_cache_what_it_shows_where_the_path_was_built() {
    for (nix, encoding) in Nix::all().iter().zip(["zstd", "none", "zstd"]) {
        let store = NixStore::new(nix);
        let roots =
            store.build(&fixture(), &["-A", "program", "-A", "caLeaf", "-A", "split"]).await;
        let options = ServerOptions::args(&["--metadata-encoding", encoding]);
        let cache = TestCache::start_with(options).await;
        cache.push(&store, &roots).await.ok();
        let mut shown = 0;
        for path in store.closure(&roots).await {
            let drv = deriver(&store, &path).await;
            if drv == "unknown-deriver" {
                continue;
            }
            let expected = nix_log(&store, &store.root(), &path).await;
            for reader in Nix::all() {
                let reader = NixStore::new(reader);
                for asked in [&path, &drv] {
                    let text = nix_log(&reader, cache.bucket.reader(), asked).await;
                    assert_eq!(text, expected, "{asked} with {}", reader.nix.version);
                }
            }
            shown += usize::from(!expected.is_empty());
            let key = format!("log/{}", drv.rsplit('/').next().unwrap());
            let (_, encoded, kind) = cache.bucket.raw(&key).await.unwrap();
            assert_eq!(encoded.as_deref(), Some("zstd").filter(|_| encoding == "zstd"));
            assert_eq!(kind.as_deref(), Some("text/plain; charset=utf-8"));
        }
        assert!(shown >= 2, "program and ca-leaf say something");
        cache.assert_consistent().await;
        cache.assert_fsck(&["--s3"], "logs").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_compressed_is_sent_as_well() {
    let store = NixStore::new(Nix::any());
    let args = ["-A", "caLeaf", "--option", "compress-build-log", "false"];
    let roots = store.build(&fixture(), &args).await;
    assert!(log_files(&store).iter().all(|file| file.extension().unwrap() == "drv"));
    let cache = TestCache::start().await;
    cache.push(&store, &roots).await.ok();
    let reader = NixStore::new(Nix::any());
    assert_eq!(nix_log(&reader, cache.bucket.reader(), &roots[0]).await, "building ca-leaf\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_damaged_costs_the_log_and_not_the_push() {
    let spoil = |file: &Path| {
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::write(file, bytes).unwrap();
    };
    assert_warned(spoil, &["it cannot be read", ".drv.bz2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_short_costs_the_log_and_not_the_push() {
    let cut = |file: &Path| {
        let file = std::fs::File::options().write(true).open(file).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    };
    assert_warned(cut, &["it cannot be read", ".drv.bz2"]).await;
    assert_warned(|file| std::fs::write(file, "").unwrap(), &["it cannot be read"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_beyond_the_limit_costs_the_log_and_not_the_push() {
    let large = |file: &Path| {
        let zeros = std::io::Read::take(std::io::repeat(0), MAX_LOG_BYTES + 1);
        let mut bzip2 = bzip2::read::BzEncoder::new(zeros, bzip2::Compression::fast());
        std::io::copy(&mut bzip2, &mut std::fs::File::create(file).unwrap()).unwrap();
    };
    assert_warned(large, &["it has more than 64 MiB"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_and_events_count_the_logs() {
    let (store, roots, _) = program(Nix::any()).await;
    let built = log_files(&store).len();
    let cache = TestCache::start().await;
    let push = async |flag: &str| {
        let args = [&[flag.to_owned()], roots.as_slice()].concat();
        cache.client(&store, "push", &args).await.ok()
    };
    let dry = push("--dry-run").await;
    assert!(dry.stderr.contains(&format!(", and {built} build logs")), "{}", dry.stderr);
    assert!(cache.log_keys().await.is_empty());
    let last = |stdout: &str| -> serde_json::Value {
        serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
    };
    assert_eq!(last(&push("--json").await.stdout)["logs"], built);
    assert_eq!(last(&push("--json").await.stdout)["logs"], 0);
}
