//! Real Nix, and stores of its own in folders.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use tokio::{process::Command, sync::OnceCell};

use super::{Random, Run, run, server::PUBLIC_KEY, write};

/// One Nix.
#[derive(Clone, Debug)]
pub struct Nix {
    pub bin: PathBuf,
    /// Such as `2.34.8`.
    pub version: String,
}

impl Nix {
    /// All that the environment names. None is a failure, not a reason to skip.
    pub fn all() -> &'static [Nix] {
        static ALL: OnceLock<Vec<Nix>> = OnceLock::new();
        ALL.get_or_init(|| {
            let given = std::env::var("NIKS3_TEST_NIX").unwrap_or_default();
            let mut bins: Vec<PathBuf> =
                given.split(':').filter(|bin| !bin.is_empty()).map(PathBuf::from).collect();
            if bins.is_empty() {
                let path = std::env::var_os("PATH").unwrap_or_default();
                bins.extend(
                    std::env::split_paths(&path).find(|dir| dir.join("nix-build").exists()),
                );
            }
            assert!(!bins.is_empty(), "no Nix: set NIKS3_TEST_NIX, or run scripts/test");
            bins.into_iter().map(Nix::at).collect()
        })
    }

    /// One, where it does not matter which.
    pub fn any() -> &'static Nix {
        &Self::all()[Self::all().len() - 1]
    }

    fn at(bin: PathBuf) -> Self {
        let output = std::process::Command::new(bin.join("nix")).arg("--version").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let version = text.split_whitespace().last().unwrap().to_owned();
        Self { bin, version }
    }

    pub fn path(&self) -> String {
        format!("{}:/usr/local/bin:/usr/bin:/bin", self.bin.display())
    }

    /// Whether this is Nix 2.8, of which the tests know peculiarities.
    pub fn is_old(&self) -> bool {
        self.version.starts_with("2.8.")
    }
}

/// A store in a folder, with a home and settings of its own. Its store paths are `/nix/store/…`.
pub struct NixStore {
    pub nix: Nix,
    pub dir: tempfile::TempDir,
}

impl NixStore {
    pub fn new(nix: &Nix) -> Self {
        Self::trusting(nix, PUBLIC_KEY)
    }

    /// One that believes only what this key has signed.
    pub fn trusting(nix: &Nix, public_key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let conf = "build-users-group =\nsandbox = false\nsubstituters =\n\
                    experimental-features = nix-command flakes ca-derivations\n\
                    sandbox-paths = /bin /usr /lib /lib64\n";
        write(&dir.path().join("nix.conf"), &format!("{conf}trusted-public-keys = {public_key}\n"));
        Self { nix: nix.clone(), dir }
    }

    /// What `--store` takes.
    pub fn root(&self) -> String {
        self.dir.path().join("root").to_str().unwrap().to_owned()
    }

    /// Where a store path's files are.
    pub fn real(&self, store_path: &str) -> PathBuf {
        PathBuf::from(format!("{}{store_path}", self.root()))
    }

    pub fn database(&self) -> PathBuf {
        PathBuf::from(format!("{}/nix/var/nix/db/db.sqlite", self.root()))
    }

    /// One of Nix's programs, with this store's settings.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.nix.bin.join(name));
        let home = self.dir.path().join("home");
        command.env_clear().env("PATH", self.nix.path()).env("HOME", home);
        command.env("NIX_CONF_DIR", self.dir.path()).current_dir(self.dir.path());
        command
    }

    pub async fn run(&self, name: &str, args: &[&str]) -> Run {
        run(self.program(name).args(args)).await
    }

    /// Builds an attribute of a `.nix` file; answers its outputs.
    pub async fn build(&self, file: &Path, args: &[&str]) -> Vec<String> {
        let mut command = self.program("nix-build");
        command.args(["--no-out-link", "--store", &self.root()]).arg(file).args(args);
        let built = run(&mut command).await.ok();
        built.stdout.lines().map(str::to_owned).collect()
    }

    /// Adds a file of so many bytes that do not compress. The same `seed` gives the same bytes.
    pub async fn add_noise(&self, name: &str, seed: u64, bytes: usize) -> String {
        let mut random = Random::from(seed);
        let noise = std::iter::repeat_with(|| random.next().to_le_bytes());
        self.add(name, |file| file.write_all(&noise.flatten().take(bytes).collect::<Vec<u8>>()))
            .await
    }

    /// Adds a large file, half of which does not compress.
    pub async fn add_half_noise(&self, name: &str, seed: u64, bytes: usize) -> String {
        const BLOCK: usize = 1 << 20;
        let mut random = Random::from(seed);
        let zeros = vec![0; BLOCK];
        self.add(name, |file| {
            for _ in 0..bytes / (2 * BLOCK) {
                let noise = std::iter::repeat_with(|| random.next().to_le_bytes());
                file.write_all(&noise.flatten().take(BLOCK).collect::<Vec<u8>>())?;
                file.write_all(&zeros)?;
            }
            Ok(())
        })
        .await
    }

    async fn add(
        &self,
        name: &str,
        write: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
    ) -> String {
        let path = self.dir.path().join(name);
        write(&mut std::fs::File::create(&path).unwrap()).unwrap();
        let mut add = self.program("nix-store");
        add.args(["--store", &self.root(), "--add"]).arg(&path);
        let added = run(&mut add).await.ok().stdout.trim().to_owned();
        std::fs::remove_file(path).unwrap();
        added
    }

    /// Every valid path.
    pub async fn all_paths(&self) -> Vec<String> {
        let all = self.run("nix", &["path-info", "--all", "--store", &self.root()]).await.ok();
        let mut paths: Vec<String> = all.stdout.lines().map(str::to_owned).collect();
        paths.sort();
        paths
    }

    /// The closure of these paths.
    pub async fn closure(&self, paths: &[String]) -> Vec<String> {
        let mut command = self.program("nix-store");
        command.args(["--store", &self.root(), "-qR"]).args(paths);
        run(&mut command).await.ok().stdout.lines().map(str::to_owned).collect()
    }

    /// `nix copy --from` a cache into this store, signatures required.
    pub async fn substitute(&self, cache: &str, paths: &[String]) -> Run {
        let mut command = self.program("nix");
        command.args(["copy", "--from", cache, "--to", &self.root()]).args(paths);
        run(&mut command).await
    }
}

/// The project's own fixture.
pub fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture.nix")
}

/// A store with the fixture built in it, for tests that only read it. With its outputs.
pub async fn shared_store() -> &'static (NixStore, Vec<String>) {
    static STORE: OnceCell<(NixStore, Vec<String>)> = OnceCell::const_new();
    STORE
        .get_or_init(|| async {
            let store = NixStore::new(Nix::any());
            let outputs = store.build(&fixture(), &["-A", "all"]).await;
            (store, outputs)
        })
        .await
}
