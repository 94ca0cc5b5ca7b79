//! What the client reads of a store and makes of its paths, compared with what Nix itself says.
//!
//! Nix is the one in `NIKS3_TEST_NIX` (folders of programs, separated by colons), else every
//! `/opt/nix-*/bin`, else that of `PATH`. Without any, the tests that need one fail.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    io::Read as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    slice::from_ref,
    sync::atomic::AtomicBool,
};

use niks3::{
    nix::{Store, StoreDb, StoreSettings, ValidPath, Want, parse_path_info, resolve},
    pack::{Body, Expected, Listing, PackOptions, list, pack},
};
use niks3_core::{
    hash::{FileHash, NarHash},
    store_path::StorePath,
};

const VERSIONS: [&str; 3] = ["2.8.0", "2.26.3", "2.34.8"];

fn data() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/nix"))
}

/// A store with the database that `version` wrote.
fn sample(version: &str) -> (tempfile::TempDir, StoreSettings) {
    let root = tempfile::tempdir().unwrap();
    let settings = StoreSettings::new(root.path().to_str(), |_| None).unwrap();
    fs::create_dir_all(settings.state_dir.join("db")).unwrap();
    let compressed = fs::read(data().join(version).join("db.sqlite.zst")).unwrap();
    fs::write(settings.database(), zstd::decode_all(compressed.as_slice()).unwrap()).unwrap();
    fs::write(settings.database().with_file_name("schema"), "10").unwrap();
    (root, settings)
}

fn by_path(paths: Vec<ValidPath>) -> BTreeMap<StorePath, ValidPath> {
    let count = paths.len();
    let by_path: BTreeMap<_, _> = paths.into_iter().map(|path| (path.path.clone(), path)).collect();
    assert_eq!(by_path.len(), count, "a path is there twice");
    by_path
}

#[test]
fn the_database_and_every_shape_of_path_info_say_the_same() {
    let mut files = 0;
    for version in VERSIONS {
        let (_root, settings) = sample(version);
        let db = StoreDb::open(&settings).unwrap();
        for file in fs::read_dir(data().join(version)).unwrap() {
            let file = file.unwrap().path();
            if file.extension() != Some(OsStr::new("json")) {
                continue;
            }
            let printed = parse_path_info(&fs::read(&file).unwrap(), &settings.store_dir).unwrap();
            let roots: Vec<StorePath> = printed.iter().map(|path| path.path.clone()).collect();
            let mut closure = db.closure(&roots).unwrap();
            // `nix path-info` does not say.
            closure.iter_mut().for_each(|path| path.realisations.clear());
            assert!(closure.iter().any(|path| path.ca.is_some() && path.deriver.is_some()));
            assert!(closure.iter().any(|path| path.references.contains(&path.path)));
            assert!(closure.iter().any(|path| !path.signatures.is_empty()));
            assert_eq!(by_path(printed), by_path(closure), "{file:?}");
            files += 1;
        }
    }
    assert_eq!(files, 4);
}

/// `nix-store --dump-db`: path, hash, size, deriver, number of references, references.
#[test]
fn every_path_of_the_database_is_as_nix_dumps_it() {
    for version in VERSIONS {
        let (_root, settings) = sample(version);
        let db = StoreDb::open(&settings).unwrap();
        let store_path = |text: &str| StorePath::from_absolute(&settings.store_dir, text).unwrap();
        let dump = fs::read_to_string(data().join(version).join("dump-db.txt")).unwrap();
        let mut lines = dump.lines();
        let mut expected = BTreeMap::new();
        while let Some(path) = lines.next() {
            let mut line = || lines.next().unwrap();
            let hash: NarHash = format!("sha256:{}", line()).parse().unwrap();
            let size: u64 = line().parse().unwrap();
            let deriver = Some(line()).filter(|line| !line.is_empty()).map(store_path);
            let count: usize = line().parse().unwrap();
            let mut references: Vec<_> = (0..count).map(|_| store_path(line())).collect();
            references.sort();
            expected.insert(store_path(path), (hash, size, deriver, references));
        }
        let paths = db.all_paths().unwrap();
        assert_eq!(paths, expected.keys().cloned().collect::<Vec<_>>());
        let found =
            db.closure(&paths).unwrap().into_iter().map(|path| {
                (path.path, (path.nar_hash, path.nar_size, path.deriver, path.references))
            });
        assert_eq!(found.collect::<BTreeMap<_, _>>(), expected, "{version}");
    }
}

#[test]
fn the_outputs_of_a_derivation_are_those_that_its_builder_left() {
    for version in VERSIONS {
        let (_root, settings) = sample(version);
        let db = StoreDb::open(&settings).unwrap();
        let multi = db.all_paths().unwrap().into_iter().find(|path| path.name() == "multi.drv");
        let outputs = db.outputs_of(&multi.unwrap()).unwrap();
        let names: Vec<&str> = outputs.iter().map(StorePath::name).collect();
        assert_eq!(names, ["multi-dev", "multi-man", "multi"], "{version}");
    }
}

/// The fields of a narinfo.
fn narinfo(file: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(file).unwrap();
    let fields = text.lines().map(|line| line.split_once(": ").unwrap());
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn packed(path: &Path, expected: &Expected) -> (Vec<u8>, FileHash, Listing) {
    let cancel = AtomicBool::new(false);
    let checksum = niks3_core::hash::ChecksumAlgorithm::Md5;
    let options = PackOptions { level: 3, checksum, case_hack: false };
    let packed = pack(path, expected, &options, &cancel).unwrap();
    assert_eq!(list(path, expected, &options, &cancel).unwrap(), packed.listing);
    let mut bytes = Vec::new();
    match packed.body {
        Body::Memory(body) => bytes = body,
        Body::File(mut file) => assert!(file.read_to_end(&mut bytes).is_ok()),
    }
    (bytes, packed.file_hash, packed.listing)
}

#[test]
fn a_packed_path_has_the_nar_and_the_listing_that_nix_made_of_it() {
    let cache = data().join("2.34.8/cache");
    let mut paths = 0;
    for file in fs::read_dir(&cache).unwrap() {
        let file = file.unwrap().path();
        if file.extension() != Some(OsStr::new("narinfo")) {
            continue;
        }
        let fields = narinfo(&file);
        let compressed = fs::read(cache.join(&fields["URL"])).unwrap();
        let nar = zstd::decode_all(compressed.as_slice()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let restored = folder.path().join("restored");
        let native = nix_archive::nar::CaseHack::native();
        nix_archive::nar::restore(nar.as_slice(), &restored, native).unwrap();

        let expected = Expected {
            path: fields["StorePath"].strip_prefix("/nix/store/").unwrap().parse().unwrap(),
            nar_hash: fields["NarHash"].parse().unwrap(),
            nar_size: fields["NarSize"].parse().unwrap(),
        };
        let (body, _, listing) = packed(&restored, &expected);
        assert!(zstd::decode_all(body.as_slice()).unwrap() == nar, "{file:?}");
        let by_nix = fs::read_to_string(file.with_extension("ls")).unwrap();
        assert_eq!(listing, Listing::Json(by_nix), "{file:?}");
        paths += 1;
    }
    assert_eq!(paths, 19);
}

/// Every real Nix that is to be had, as the folder of its programs.
fn real_nixes() -> Vec<PathBuf> {
    let has_nix = |folder: &PathBuf| folder.join("nix-store").exists();
    let found: Vec<PathBuf> = match std::env::var_os("NIKS3_TEST_NIX") {
        Some(folders) => std::env::split_paths(&folders).collect(),
        None => {
            let opt = fs::read_dir("/opt").into_iter().flatten().flatten();
            let opt = opt.filter(|entry| entry.file_name().as_bytes().starts_with(b"nix-"));
            let mut found: Vec<_> =
                opt.map(|entry| entry.path().join("bin")).filter(has_nix).collect();
            if found.is_empty() {
                let path = std::env::var_os("PATH").unwrap_or_default();
                found.extend(std::env::split_paths(&path).find(has_nix));
            }
            found
        }
    };
    assert!(!found.is_empty(), "no Nix found: set NIKS3_TEST_NIX to a folder with nix-store");
    for folder in &found {
        assert!(has_nix(folder), "there is no nix-store in {folder:?}");
    }
    found
}

/// A real Nix with a store of its own, which shares nothing with the machine's.
struct RealNix {
    folder: tempfile::TempDir,
    settings: StoreSettings,
}

impl RealNix {
    fn new(programs: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let below = |name: &str| folder.path().canonicalize().unwrap().join(name);
        for name in ["bin", "home", "conf"] {
            fs::create_dir(below(name)).unwrap();
        }
        let conf = "build-users-group =\nsandbox = false\nsubstituters =\n";
        fs::write(below("conf/nix.conf"), conf).unwrap();
        let env = [
            ("HOME", "home"),
            ("NIX_CONF_DIR", "conf"),
            ("NIX_STORE_DIR", "store"),
            ("NIX_STATE_DIR", "state"),
            ("NIX_LOG_DIR", "log"),
        ];
        let env = env.map(|(name, folder)| (name, below(folder)));
        let words = env.iter().map(|(name, folder)| format!(" {name}={}", folder.display()));
        let words: String = words.collect();
        for program in ["nix", "nix-store", "nix-instantiate"] {
            let real = programs.join(program);
            let script = format!(
                "#!/bin/sh\nexec env -i PATH={}:/usr/bin:/bin{words} {} \"$@\"\n",
                programs.display(),
                real.display()
            );
            let file = below("bin").join(program);
            fs::write(&file, script).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let lookup = |name: &str| {
            env.iter().find(|(key, _)| *key == name).map(|(_, folder)| OsString::from(folder))
        };
        let mut settings = StoreSettings::new(None, lookup).unwrap();
        settings.nix_program = below("bin/nix");
        Self { folder, settings }
    }

    fn run(&self, program: &str, args: &[&OsStr]) -> Vec<u8> {
        let program = self.settings.nix_program.with_file_name(program);
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A flake with one derivation of two outputs, the first of which refers to the second.
    fn flake(&self) -> PathBuf {
        let flake = self.folder.path().join("flake");
        fs::create_dir(&flake).unwrap();
        let os = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
        let system = format!("{}-{os}", std::env::consts::ARCH);
        let text = r#"{ outputs = { self }: { packages.SYSTEM.default = derivation {
            name = "two"; system = "SYSTEM"; builder = "/bin/sh"; outputs = [ "out" "dev" ];
            args = [ "-c" "echo $dev > $out; echo header > $dev" ]; }; }; }"#;
        fs::write(flake.join("flake.nix"), text.replace("SYSTEM", &system)).unwrap();
        flake
    }
}

impl Drop for RealNix {
    /// Store paths are read-only, folders too.
    fn drop(&mut self) {
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(self.folder.path()).status();
    }
}

/// A tree with every kind of file.
fn tree(folder: &Path) -> PathBuf {
    let root = folder.join("tree");
    fs::create_dir_all(root.join("deep/er/empty")).unwrap();
    for (name, bytes) in [("empty", 0), ("seven", 7), ("eight", 8), ("large", 700_001)] {
        fs::write(root.join(name), vec![b'x'; bytes]).unwrap();
    }
    for (name, mode) in [("owner", 0o744), ("group", 0o654), ("nobody", 0o400), ("all", 0o755)] {
        fs::write(root.join("deep").join(name), name).unwrap();
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(root.join("deep").join(name), mode).unwrap();
    }
    for name in ["a", "B", "a.b", "a b", "10", "2", "naïve-文件", "deep/er/z"] {
        fs::write(root.join(name), name).unwrap();
    }
    if cfg!(target_os = "linux") {
        fs::write(root.join(OsStr::from_bytes(b"latin1-\xe4")), "x").unwrap();
    }
    symlink("eight", root.join("link")).unwrap();
    symlink("/does/not/exist", root.join("dangling")).unwrap();
    root
}

#[test]
fn a_nar_is_byte_for_byte_the_one_that_nix_store_dumps() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(folder.path());
    for programs in real_nixes() {
        let nix = RealNix::new(&programs);
        for path in [tree.clone(), tree.join("link"), tree.join("empty"), tree.join("deep/all")] {
            let nar = nix.run("nix-store", &[OsStr::new("--dump"), path.as_os_str()]);
            let expected = Expected {
                path: "00000000000000000000000000000000-tree".parse().unwrap(),
                nar_hash: NarHash::new(<sha2::Sha256 as sha2::Digest>::digest(&nar).into()),
                nar_size: nar.len() as u64,
            };
            let (body, ..) = packed(&path, &expected);
            assert!(zstd::decode_all(body.as_slice()).unwrap() == nar, "{path:?}");
        }
    }
}

#[test]
fn a_flake_a_link_and_a_derivation_lead_to_the_paths_that_nix_built() {
    for programs in real_nixes() {
        let nix = RealNix::new(&programs);
        let flake = nix.flake().to_str().unwrap().to_owned();
        let store = Store::open(nix.settings.clone()).unwrap();
        assert!(store.why_not_database().is_some(), "there should be no database yet");
        let names = |text: String, want| {
            let paths = resolve(&store, &[text], want).unwrap();
            paths.iter().map(|path| path.name().to_owned()).collect::<Vec<_>>()
        };
        // The folder as such, and as a reference.
        assert_eq!(names(flake.clone(), Want::Outputs), ["two"]);
        let reference = format!("path:{flake}#default");
        assert_eq!(names(reference.clone(), Want::Outputs), ["two"]);
        assert_eq!(names(reference.clone(), Want::Derivation), ["two.drv"]);

        let store = Store::open(nix.settings.clone()).unwrap();
        assert_eq!(store.why_not_database(), None);
        let out = resolve(&store, from_ref(&reference), Want::Outputs).unwrap().remove(0);
        let drv = resolve(&store, from_ref(&reference), Want::Derivation).unwrap().remove(0);
        let absolute = |path: &StorePath| path.absolute(&nix.settings.store_dir);
        let link = nix.folder.path().join("result");
        symlink(absolute(&out), &link).unwrap();
        let link = link.to_str().unwrap().to_owned();
        let one = |text: &str, want| resolve(&store, &[text.to_owned()], want).unwrap();
        assert_eq!(one(&link, Want::Outputs), *from_ref(&out));
        assert_eq!(one(&link, Want::Derivation), *from_ref(&drv));
        assert_eq!(one(&absolute(&drv), Want::Derivation), *from_ref(&drv));
        let both = one(&absolute(&drv), Want::Outputs);
        assert_eq!(both, one(&absolute(&drv), Want::Outputs));
        assert_eq!(both.iter().map(StorePath::name).collect::<Vec<_>>(), ["two-dev", "two"]);

        let nowhere = resolve(&store, &[format!("path:{flake}#nothing")], Want::Outputs);
        assert!(nowhere.unwrap_err().to_string().contains("#nothing"));
    }
}

#[test]
fn asking_nix_gives_the_same_answers_as_the_database() {
    for programs in real_nixes() {
        let nix = RealNix::new(&programs);
        let file = tree(nix.folder.path()).join("eight");
        nix.run("nix-store", &[OsStr::new("--add"), file.as_os_str()]);
        let flake = nix.flake().to_str().unwrap().to_owned();
        Store::open(nix.settings.clone()).unwrap().nix().build(&[&flake]).unwrap();

        let store = Store::open(nix.settings.clone()).unwrap();
        assert_eq!(store.why_not_database(), None);
        // As where only the daemon may look into the database.
        let elsewhere =
            StoreSettings { state_dir: nix.folder.path().join("closed"), ..nix.settings.clone() };
        let by_nix = Store::open(elsewhere).unwrap();
        assert!(by_nix.why_not_database().is_some());

        let all = store.all_paths().unwrap();
        assert_eq!(by_nix.all_paths().unwrap(), all);
        let closure = store.closure(&all).unwrap();
        assert_eq!(closure.len(), all.len());
        assert!(closure.iter().any(|path| path.ca.is_some()));
        assert_eq!(by_nix.closure(&all).unwrap(), closure);
        for path in &all {
            assert_eq!(
                by_nix.closure(from_ref(path)).unwrap(),
                store.closure(from_ref(path)).unwrap()
            );
        }
        let drv = all.iter().find(|path| path.is_derivation()).unwrap();
        let mut outputs = by_nix.outputs_of(drv).unwrap();
        outputs.sort();
        let mut in_database = store.outputs_of(drv).unwrap();
        in_database.sort();
        assert_eq!((outputs.len(), &outputs), (2, &in_database));

        // One output is gone: neither counts it.
        let dev = outputs.iter().find(|path| path.name() == "two-dev").unwrap();
        let out = outputs.iter().find(|path| path.name() == "two").unwrap();
        let absolute = out.absolute(&nix.settings.store_dir);
        nix.run("nix-store", &[OsStr::new("--delete"), OsStr::new(&absolute)]);
        assert_eq!(by_nix.outputs_of(drv).unwrap(), *from_ref(dev));
        assert_eq!(store.outputs_of(drv).unwrap(), *from_ref(dev));
        for store in [&store, &by_nix] {
            let error = store.closure(from_ref(out)).unwrap_err();
            let mut text = error.to_string();
            if let Some(cause) = std::error::Error::source(&error) {
                text.push_str(&cause.to_string());
            }
            assert!(text.contains(&out.to_string()), "{text}");
        }
    }
}
