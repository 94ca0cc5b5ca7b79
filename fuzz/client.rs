//! What the client reads from outside: see `shared.rs`.

use std::{cell::RefCell, ffi::OsString, os::unix::ffi::OsStrExt as _};

use niks3::nix::{StoreDb, StoreSettings, ValidPath, parse_path_info};
use niks3_core::store_path::{StoreDir, StorePath};

/// What `nix path-info --json` prints.
pub fn path_info(data: &[u8]) {
    for path in parse_path_info(data, &StoreDir::default()).unwrap_or_default() {
        valid(&path);
    }
}

fn valid(path: &ValidPath) {
    assert!(path.nar_size > 0, "{path:?}");
    assert!(path.references.is_sorted_by(|a, b| a < b), "{path:?}");
    for signature in &path.signatures {
        assert!(!signature.to_string().contains(char::is_whitespace), "{path:?}");
    }
}

/// `--store`, Nix's variables, and what its configuration says.
pub fn settings(data: &[u8]) {
    let value = OsString::from(std::ffi::OsStr::from_bytes(data));
    let no_files = |name: &str| matches!(name, "NIX_CONF_DIR").then(|| OsString::from("/nowhere"));
    let set = |given: &'static str| {
        let value = value.clone();
        move |name: &str| if name == given { Some(value.clone()) } else { no_files(name) }
    };
    let store = std::str::from_utf8(data).ok();
    let read = [
        StoreSettings::new(store, no_files),
        StoreSettings::new(None, set("NIX_REMOTE")),
        StoreSettings::new(None, set("NIX_STORE_DIR")),
        StoreSettings::new(None, set("NIX_STATE_DIR")),
        StoreSettings::new(None, set("NIX_CONFIG")),
    ];
    for settings in read.into_iter().flatten() {
        for folder in [&settings.real_store_dir, &settings.state_dir, &settings.log_dir] {
            let parts = folder.components().skip(1);
            assert!(folder.is_absolute(), "{folder:?}");
            assert!(
                parts.into_iter().all(|part| matches!(part, std::path::Component::Normal(_))),
                "{folder:?}"
            );
        }
        let path: StorePath = "26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello".parse().unwrap();
        let absolute = path.absolute(&settings.store_dir);
        assert_eq!(StorePath::from_absolute(&settings.store_dir, &absolute).unwrap(), path);
    }
}

/// A database of Nix's with one path and a reference, kept open.
struct Database {
    _folder: tempfile::TempDir,
    settings: StoreSettings,
    writer: rusqlite::Connection,
}

impl Database {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings::new(folder.path().to_str(), |_| None).unwrap();
        let file = settings.database();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file.with_file_name("schema"), "10").unwrap();
        let writer = rusqlite::Connection::open(file).unwrap();
        writer.execute_batch(include_str!("../tests/data/nix/schema.sql")).unwrap();
        writer.execute_batch("PRAGMA journal_mode = memory; PRAGMA synchronous = off").unwrap();
        let hash = format!("sha256:{}", "0".repeat(64));
        for id in [1, 2] {
            let path = format!("/nix/store/{id}6xbg1ndr7hbcncrlf9nhx5is2b25d13-hello");
            let insert = "INSERT INTO ValidPaths (id, path, hash, registrationTime, narSize) \
                          VALUES (?, ?, ?, 1, 1)";
            writer.execute(insert, rusqlite::params![id, path, hash]).unwrap();
        }
        writer.execute("INSERT INTO Refs VALUES (2, 1)", []).unwrap();
        Self { _folder: folder, settings, writer }
    }
}

/// A row of Nix's database: the first byte says in which column the rest stands.
pub fn database(data: &[u8]) {
    const COLUMNS: [&str; 6] = ["path", "hash", "deriver", "narSize", "sigs", "ca"];
    thread_local!(static DATABASE: RefCell<Database> = RefCell::new(Database::new()));
    let Some((first, rest)) = data.split_first() else { return };
    let column = COLUMNS[usize::from(*first) % COLUMNS.len()];
    let value: rusqlite::types::Value = match std::str::from_utf8(rest) {
        Ok(text) => match text.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => text.to_owned().into(),
        },
        Err(_) => rest.to_vec().into(),
    };
    DATABASE.with_borrow_mut(|database| {
        let change = database.writer.transaction().unwrap();
        let update = format!("UPDATE ValidPaths SET {column} = ? WHERE id = 1");
        // What the schema itself refuses cannot be there.
        if change.execute(&update, [value]).is_err() {
            return;
        }
        change.commit().unwrap();
        let db = StoreDb::open(&database.settings).unwrap();
        let root = "26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello".parse().unwrap();
        for path in db.closure(&[root]).unwrap_or_default() {
            valid(&path);
        }
        let _ = db.all_paths();
        let reset = "UPDATE ValidPaths SET path = '/nix/store/16xbg1ndr7hbcncrlf9nhx5is2b25d13-hello', \
                     hash = (SELECT hash FROM ValidPaths WHERE id = 2), deriver = NULL, narSize = 1, \
                     sigs = NULL, ca = NULL WHERE id = 1";
        database.writer.execute(reset, []).unwrap();
    });
}
