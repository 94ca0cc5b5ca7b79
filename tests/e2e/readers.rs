//! All that a reader can ask a cache, with each Nix, in both encodings: and nothing is ever built.

use crate::{
    logs::nix_log,
    support::{
        Nix, NixStore, Run, ServerOptions, TestCache, assert_same_tree, embedded_s3, fixture, run,
        say,
    },
};

/// What is built, pushed and read.
pub const ROOTS: [&str; 6] = ["-A", "all", "-A", "ca", "-A", "debug"];

pub struct Reading<'a> {
    pub cache: &'a TestCache,
    /// Where it is read from.
    pub url: String,
    /// Where it was built.
    pub store: &'a NixStore,
    pub roots: &'a [String],
    pub what: String,
}

impl Reading<'_> {
    /// `nix ARGS… --store CACHE PATHS…`
    pub async fn ask(&self, reader: &NixStore, args: &[&str], paths: &[String]) -> Run {
        let mut nix = reader.program("nix");
        run(nix.args(args).args(["--store", &self.url]).args(paths)).await
    }

    /// An empty store evaluates the same expressions, may build nothing, and has all of it.
    pub async fn assert_nothing_is_built(&self) {
        let reader = NixStore::new(&self.store.nix);
        let mut build = reader.program("nix-build");
        build.args(["--no-out-link", "--store", &reader.root()]).arg(fixture()).args(ROOTS);
        build.args(["--option", "substituters", &self.url, "--option", "max-jobs", "0"]);
        build.args(["--option", "builders", "", "--option", "require-sigs", "true"]);
        let built = run(&mut build).await;
        assert_eq!(built.code, Some(0), "{}: {}", self.what, built.stderr);
        let mut outputs: Vec<&str> = built.stdout.lines().collect();
        let mut expected: Vec<&str> = self.roots.iter().map(String::as_str).collect();
        outputs.sort_unstable();
        expected.sort_unstable();
        assert_eq!(outputs, expected, "{}", self.what);
        for path in self.store.closure(self.roots).await {
            assert_same_tree(&self.store.real(&path), &reader.real(&path));
        }
    }

    /// A path of the closure and its deriver, by the end of its name.
    async fn path(&self, name: &str) -> (String, String) {
        let closure = self.store.closure(self.roots).await;
        let path = closure.into_iter().find(|path| path.ends_with(name)).unwrap();
        let mut query = self.store.program("nix-store");
        query.args(["--store", &self.store.root(), "-q", "--deriver", &path]);
        let deriver = run(&mut query).await.ok().stdout.trim().to_owned();
        (path, deriver)
    }

    pub async fn assert_logs(&self) {
        let reader = NixStore::new(&self.store.nix);
        for (name, line) in [("-program-1.2", "this line is in"), ("-ca-leaf", "building ca-leaf")]
        {
            let (path, deriver) = self.path(name).await;
            for asked in [path, deriver] {
                let log = nix_log(&reader, &self.url, &asked).await;
                assert!(log.contains(line), "{}: log {asked}: {log}", self.what);
            }
        }
    }

    pub async fn assert_questions(&self) {
        let reader = NixStore::new(&self.store.nix);
        let closure = self.store.closure(self.roots).await;
        let info = self.ask(&reader, &["path-info", "--json"], &closure).await.ok().stdout;
        assert!(closure.iter().all(|path| info.contains(&path["/nix/store/".len()..])), "{info}");
        let (program, _) = self.path("-program-1.2").await;
        let listed =
            self.ask(&reader, &["store", "ls", "-R"], std::slice::from_ref(&program)).await;
        assert!(listed.ok().stdout.contains("bin/program"), "{}", self.what);
        let file = format!("{program}/bin/program");
        let shown = self.ask(&reader, &["store", "cat"], std::slice::from_ref(&file)).await.ok();
        let there = std::fs::read_to_string(self.store.real(&file)).unwrap();
        assert_eq!(shown.stdout, there, "{}", self.what);
        self.ask(&reader, &["store", "verify"], &closure).await.ok();
    }

    async fn assert_derivations(&self) {
        let (_, deriver) = self.path("-program-1.2").await;
        let args = ["--derivation".to_owned(), deriver.clone()];
        self.cache.client(self.store, "copy", &args).await.ok();
        let reader = NixStore::new(&self.store.nix);
        let mut copy = reader.program("nix");
        copy.args(["copy", "--derivation", "--from", &self.url, "--to", &reader.root(), &deriver]);
        run(&mut copy).await.ok();
        assert_same_tree(&self.store.real(&deriver), &reader.real(&deriver));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_nix_finds_all_that_a_path_carries_and_builds_nothing() {
    for nix in Nix::all() {
        let store = NixStore::new(nix);
        let roots = store.build(&fixture(), &ROOTS).await;
        for encoding in ["zstd", "none"] {
            let options = ServerOptions::args(&["--metadata-encoding", encoding]);
            let cache = TestCache::start_with(options).await;
            let mut args = vec!["--index-debug-info".to_owned()];
            args.extend(roots.iter().cloned());
            cache.push(&store, &args).await.ok();
            cache.assert_consistent().await;
            let what = format!("nix {}, {encoding}", nix.version);
            let url = cache.bucket.reader().to_owned();
            let reading = Reading { cache: &cache, url, store: &store, roots: &roots, what };
            reading.assert_nothing_is_built().await;
            reading.assert_logs().await;
            reading.assert_questions().await;
            reading.assert_derivations().await;
            cache.assert_fsck(&["--s3"], &reading.what).await;
        }
    }
}

/// The newest Nix, with the bucket's own name. Of other S3 servers than the embedded one nobody may read
/// without credentials, and Nix sends none.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_read_as_s3_without_credentials() {
    let newest = Nix::all().iter().find(|nix| nix.version.starts_with("2.34."));
    let Some(nix) = newest.filter(|_| embedded_s3()) else {
        return say("not tried: reading s3:// needs Nix 2.34 and the embedded S3 server");
    };
    let store = NixStore::new(nix);
    let roots = store.build(&fixture(), &["-A", "all"]).await;
    let cache = TestCache::start().await;
    cache.push(&store, &roots).await.ok();
    let (host, bucket) =
        cache.bucket.reader().trim_start_matches("http://").split_once('/').unwrap();
    let url = format!("s3://{bucket}?endpoint={host}&scheme=http&region=us-east-1");
    let reader = NixStore::new(nix);
    reader.substitute(&url, &roots).await.ok();
    for path in store.closure(&roots).await {
        assert_same_tree(&store.real(&path), &reader.real(&path));
    }
}
