//! The realisations that are read from databases of real Nix, compared with those that the same Nix
//! wrote into a cache.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use niks3::nix::{StoreDb, StoreSettings, ValidPath};
use niks3_core::{
    realisation::{OutputId, Realisation},
    signing::SigningKey,
    store_path::StorePath,
    wire::PlannedRealisation,
};
use rusqlite::Connection;

const VERSIONS: [&str; 3] = ["2.8.0", "2.26.3", "2.34.8"];

/// The secret key that signed the samples: test data, known to everyone.
const KEY: &str = "binary-cache-test-1:P3IA3lXplG9zVhw1oOFQ/5m/7r2uzWCnRGV3H7szHJ+whgW7HfXV47bf6lD0iCACdanLNPCi+O2VtvUvLPVt5g==";

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nix")
}

/// A store with the database that some version wrote.
struct Sample {
    _root: tempfile::TempDir,
    settings: StoreSettings,
}

impl Sample {
    fn of(version: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = StoreSettings::new(root.path().to_str(), |_| None).unwrap();
        fs::create_dir_all(settings.state_dir.join("db")).unwrap();
        let compressed = fs::read(data().join(version).join("db.sqlite.zst")).unwrap();
        fs::write(settings.database(), zstd::decode_all(compressed.as_slice()).unwrap()).unwrap();
        fs::write(settings.database().with_file_name("schema"), "10").unwrap();
        Self { _root: root, settings }
    }

    /// With the derivations, which are the same in all of them.
    fn with_derivations(version: &str) -> Self {
        let sample = Self::of(version);
        fs::create_dir_all(&sample.settings.real_store_dir).unwrap();
        for entry in fs::read_dir(data().join("derivations")).unwrap() {
            let entry = entry.unwrap();
            let copy = sample.settings.real_store_dir.join(entry.file_name());
            fs::copy(entry.path(), copy).unwrap();
        }
        sample
    }

    fn change(&self, sql: &str) {
        Connection::open(self.settings.database()).unwrap().execute_batch(sql).unwrap();
    }

    /// Has the database say in the way of Nix 2.35 what it says.
    fn renew(&self, signatures: &str) {
        self.change(&format!(
            "CREATE TABLE BuildTraceV3 (
                 id integer primary key autoincrement not null, drvPath text not null,
                 outputName text not null, outputPath text not null, signatures text);
             INSERT INTO BuildTraceV3(drvPath, outputName, outputPath, signatures)
                 SELECT DISTINCT substr(v.deriver, 12), r.outputName, v.path, '{signatures}'
                 FROM Realisations r JOIN ValidPaths v ON v.id = r.outputPath;
             DELETE FROM RealisationsRefs; DELETE FROM Realisations;"
        ));
    }

    fn closure(&self) -> Vec<ValidPath> {
        let db = StoreDb::open(&self.settings).unwrap();
        db.closure(&db.all_paths().unwrap()).unwrap()
    }

    /// What is known of the path with this name.
    fn ids(&self, name: &str) -> BTreeSet<String> {
        let closure = self.closure();
        let path = closure.iter().find(|path| path.path.name() == name).unwrap();
        path.realisations.iter().map(|known| known.id.to_string()).collect()
    }
}

fn texts(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|&id| id.to_owned()).collect()
}

fn is_hashed(known: &PlannedRealisation) -> bool {
    matches!(known.id, OutputId::Hashed(..))
}

const RESOLVED: &str =
    "sha256:32efd856dea1f74c67123b918b9b701a404c57edb0e340b0543311bbc10881ed!out";
const EVALUATED: &str =
    "sha256:eef6dacea71605e9ffdb40cf892c954bb2e34e08bb7f182215393c5ab2344a4a!out";
const DERIVED: &str = "w1jdz6lradmj5dgyxzyl1wlgk9w7fvrn-ca-top.drv^out";

#[test]
fn realisations_are_those_that_nix_wrote_into_a_cache() {
    let key: SigningKey = KEY.parse().unwrap();
    for version in VERSIONS {
        let mut ours = BTreeMap::new();
        for path in Sample::of(version).closure() {
            for PlannedRealisation { id, dependencies, signatures } in path.realisations {
                let (path, signatures) = (path.path.clone(), signatures.into_iter().collect());
                let realisation = Realisation { id: id.clone(), path, dependencies, signatures };
                ours.insert(id.to_string(), realisation.compose(std::slice::from_ref(&key)));
            }
        }
        assert_eq!(ours.len(), 20, "{version}: as many as there are rows, for want of derivations");
        let theirs = fs::read_to_string(data().join(version).join("realisations.txt")).unwrap();
        for line in theirs.lines() {
            let (id, text) = line.split_once(' ').unwrap();
            assert_eq!(ours[id], text, "{version}");
        }
    }
}

#[test]
fn what_nix_up_to_2_34_recorded_is_there_for_later_readers_too() {
    for version in VERSIONS {
        let sample = Sample::with_derivations(version);
        assert_eq!(sample.ids("ca-top"), texts(&[RESOLVED, EVALUATED, DERIVED]), "{version}");
        let multi = sample.ids("ca-multi-dev");
        let derived = "lxdg207kf9wllgs2milkfxis9aanqgr0-ca-multi.drv^dev";
        assert!(multi.len() == 2 && multi.contains(derived), "{multi:?}");
        // Its path stands in its derivation: nobody asks.
        assert_eq!(sample.ids("leaf").len(), 1);
    }
}

#[test]
fn what_nix_from_2_35_on_recorded_is_there_for_earlier_readers_too() {
    let sample = Sample::with_derivations("2.34.8");
    let sig = format!("k-1:{}==", "A".repeat(86));
    sample.renew(&sig);
    assert_eq!(sample.ids("ca-top"), texts(&[RESOLVED, DERIVED]));
    assert_eq!(sample.ids("leaf"), texts(&["iiw8cjbn92bqr9b06x1l9l1h2fsa28vp-leaf.drv^out"]));
    let closure = sample.closure();
    let known: Vec<_> = closure.iter().flat_map(|path| &path.realisations).collect();
    // Of two layouts each: ca-leaf, ca-top, ca-multi with two outputs, and two that are fixed.
    assert_eq!(known.iter().filter(|known| is_hashed(known)).count(), 6);
    for known in known {
        let expected = if is_hashed(known) { vec![] } else { vec![sig.parse().unwrap()] };
        assert_eq!(known.signatures, expected, "{}", known.id);
    }
    // Paths may stand there as base names, derivations as whole paths.
    sample.change(
        "UPDATE BuildTraceV3 SET outputPath = substr(outputPath, 12), drvPath = '/nix/store/' || drvPath",
    );
    assert_eq!(sample.ids("ca-top"), texts(&[RESOLVED, DERIVED]));
    // One that was made from others, which are hashed first.
    let whole = "9q3xl3435nrqi5gwhdmcglc4bsvx2h3j-ca-top.drv";
    sample.change(&format!(
        "UPDATE BuildTraceV3 SET drvPath = '{whole}' WHERE drvPath LIKE '%-ca-top.drv'"
    ));
    assert_eq!(sample.ids("ca-top"), texts(&[EVALUATED, &format!("{whole}^out")]));
}

#[test]
fn the_older_table_of_build_traces_is_read_too_and_nothing_comes_twice() {
    let sample = Sample::of("2.34.8");
    sample.renew("");
    sample.change("CREATE TABLE BuildTraceV2 AS SELECT * FROM BuildTraceV3");
    assert_eq!(sample.ids("ca-top"), texts(&[DERIVED]));
    sample.change("DROP TABLE BuildTraceV3");
    assert_eq!(sample.ids("ca-top"), texts(&[DERIVED]));
}

#[test]
fn a_derivation_that_is_gone_or_changed_costs_the_other_layout_alone() {
    let sample = Sample::with_derivations("2.34.8");
    let file = sample.settings.real_path(&DERIVED.split_once('^').unwrap().0.parse().unwrap());
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("mkdir", "rmdir")).unwrap();
    assert_eq!(sample.ids("ca-top"), texts(&[RESOLVED, EVALUATED]));
    fs::remove_file(&file).unwrap();
    assert_eq!(sample.ids("ca-top"), texts(&[RESOLVED, EVALUATED]));
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    assert_eq!(sample.ids("ca-top"), texts(&[RESOLVED, EVALUATED]));
    sample.renew("");
    assert_eq!(sample.ids("ca-top"), texts(&[DERIVED]));
}

/// Anyone may bring a content-addressed path to a store, with any deriver.
#[test]
fn a_deriver_that_nix_did_not_record_the_path_for_is_not_believed() {
    let sample = Sample::with_derivations("2.34.8");
    let set =
        "UPDATE ValidPaths SET deriver = '/nix/store/w1jdz6lradmj5dgyxzyl1wlgk9w7fvrn-ca-top.drv'
               WHERE path LIKE '%-ca-top'; DELETE FROM RealisationsRefs;";
    sample.change(&format!("{set} DELETE FROM Realisations WHERE drvPath LIKE 'sha256:32ef%'"));
    assert_eq!(sample.ids("ca-top"), texts(&[EVALUATED]));
    sample.change("DELETE FROM Realisations");
    assert_eq!(sample.ids("ca-top"), texts(&[]));
}

#[test]
fn rows_that_cannot_be_read_are_left_out() {
    let sample = Sample::of("2.26.3");
    sample.change(
        "UPDATE Realisations SET drvPath = 'md5:00' WHERE drvPath LIKE 'sha256:604b%';
         UPDATE Realisations SET outputName = '../out' WHERE drvPath LIKE 'sha256:32ef%';
         UPDATE Realisations SET signatures = 'nonsense' WHERE drvPath LIKE 'sha256:d6f2%'",
    );
    // Without its dependency on ca-leaf it would be another statement.
    assert_eq!(sample.ids("ca-leaf"), texts(&[]));
    assert_eq!(sample.ids("ca-top"), texts(&[]));
    assert_eq!(sample.ids("leaf").len(), 1);
    sample.renew("[");
    sample.change("UPDATE BuildTraceV3 SET drvPath = 'x' WHERE outputPath LIKE '%-leaf'");
    assert_eq!(sample.ids("leaf"), texts(&[]));
    assert_eq!(sample.ids("top").len(), 1);
    // Another layout altogether.
    sample.change(
        "DROP TABLE BuildTraceV3; CREATE TABLE BuildTraceV3 (x); INSERT INTO BuildTraceV3 VALUES (1);
         DROP TABLE Realisations; CREATE TABLE Realisations (x); INSERT INTO Realisations VALUES (1)",
    );
    assert_eq!(sample.ids("top"), texts(&[]));
}

/// How long it takes, for whoever changes it: `cargo test --release --test realisations -- --ignored
/// --nocapture`.
#[test]
#[ignore = "measures"]
fn reading_20_000_paths_with_realisations() {
    const PATHS: usize = 20_000;
    let sample = Sample::of("2.34.8");
    let measure = |what: &str| {
        let db = StoreDb::open(&sample.settings).unwrap();
        let root: StorePath = format!("{:032}-p", PATHS - 1).parse().unwrap();
        let times = (0..5).map(|_| {
            let started = Instant::now();
            let closure = db.closure(std::slice::from_ref(&root)).unwrap();
            assert_eq!(closure.len(), PATHS);
            let known: usize = closure.iter().map(|path| path.realisations.len()).sum();
            (started.elapsed(), known)
        });
        let (time, known) = times.min().unwrap();
        eprintln!("{what}: {known} realisations, {time:?}");
    };
    sample.change(
        "DELETE FROM RealisationsRefs; DELETE FROM Realisations; DELETE FROM Refs;
         DELETE FROM DerivationOutputs; DELETE FROM ValidPaths;",
    );
    let numbers = format!(
        "WITH RECURSIVE N(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM N WHERE n + 1 < {PATHS})"
    );
    sample.change(&format!(
        "{numbers} INSERT INTO ValidPaths(id, path, hash, registrationTime, narSize, deriver)
             SELECT n + 1, printf('/nix/store/%032d-p', n),
                 'sha256:30c8d44787a3ccf44d375d51a93e7e05f38f4b7d6be68641d6e1a0678c6b4113', 0, 112,
                 printf('/nix/store/%032d-p.drv', n) FROM N;
         {numbers}, K(k) AS (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10))
             INSERT INTO Refs SELECT n + 1, n + 1 - k FROM N, K WHERE n + 1 - k > 0;"
    ));
    measure("no rows");
    sample.change(&format!(
        "{numbers}, K(k) AS (VALUES (1), (2))
         INSERT INTO Realisations(drvPath, outputName, outputPath, signatures)
             SELECT printf('sha256:%064d', n * 2 + k), 'out', n + 1, 'k:{}==' FROM N, K;",
        "A".repeat(86)
    ));
    measure("two rows of Realisations for each path");
    sample.change("UPDATE ValidPaths SET ca = 'fixed:r:sha256:1pfylcgwv3bv9dzk31kqssx6p44ys45n8fiy09c87blkay57qvi6'");
    measure("the same, all content-addressed, no derivation in the store");
    sample.change(
        "INSERT INTO RealisationsRefs SELECT id, id - 1 FROM Realisations
             WHERE id > (SELECT min(id) FROM Realisations)",
    );
    measure("the same, with a dependency for each row");
    sample.change("UPDATE ValidPaths SET ca = NULL");
    sample.renew("");
    measure("one row of BuildTraceV3 for each path");
    sample.change(
        "WITH RECURSIVE K(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM K WHERE k < 9)
         INSERT INTO BuildTraceV3(drvPath, outputName, outputPath)
             SELECT drvPath, 'out', outputPath || k FROM BuildTraceV3, K",
    );
    measure("the same among 200,000 rows of other paths");
}
