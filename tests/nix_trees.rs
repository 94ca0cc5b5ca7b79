//! Trees of every kind, packed by us and dumped by Nix: the same bytes.
//!
//! Nix is the last one in `NIKS3_TEST_NIX` (folders of programs, between colons), else that of `PATH`.
//! `NIKS3_TEST_SEED` draws other trees; `NIKS3_TEST_LONG` makes large files larger.

#![allow(clippy::unwrap_used)]

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{MetadataExt as _, PermissionsExt as _, symlink},
        },
    },
    path::Path,
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
};

use niks3::pack::{Expected, Listing, PackError, PackOptions, Packed, list, pack};
use niks3_core::hash::{ChecksumAlgorithm, NarHash};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

/// Random trees that are compared.
const TREES: u64 = 30;

/// Pieces of names that a file system takes, and a careless program stumbles over.
const PIECES: [&[u8]; 24] = [
    b"a",
    b"A",
    b"b",
    b".",
    b"..",
    b"-",
    b" ",
    b"\n",
    b"\t",
    b"\x01",
    b"\x7f",
    b"\\",
    b"\"",
    b"'",
    b"#",
    b"%2f",
    b"=",
    b"*",
    "é".as_bytes(),
    "e\u{301}".as_bytes(),
    "文".as_bytes(),
    b"\xff",
    b"\xc3",
    b"~nix~case~hack~1",
];

/// Sizes of files around what a NAR pads to, and around what is read at once.
const SIZES: [usize; 12] = [0, 1, 7, 8, 9, 4095, 4096, 262_143, 262_144, 262_145, 524_288, 524_289];

fn options(case_hack: bool) -> PackOptions {
    PackOptions { level: 1, checksum: ChecksumAlgorithm::Sha256, case_hack }
}

/// `nix-store` of the last Nix, with nothing of this machine's.
fn nix_store(home: &Path) -> Command {
    let folders = std::env::var_os("NIKS3_TEST_NIX").or_else(|| std::env::var_os("PATH"));
    let program = std::env::split_paths(&folders.unwrap_or_default())
        .map(|folder| folder.join("nix-store"))
        .filter(|program| program.exists())
        .last()
        .expect("no Nix: set NIKS3_TEST_NIX to a folder with nix-store");
    let mut command = Command::new(program);
    command.env("HOME", home).env("NIX_CONF_DIR", home);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What Nix makes of `path`: hash and size, or what it says against it.
fn by_nix(path: &Path, case_hack: bool) -> Result<Expected, String> {
    let mut dump = nix_store(path.parent().unwrap());
    dump.arg("--dump").arg(path).args(["--option", "use-case-hack", &case_hack.to_string()]);
    let mut child = dump.spawn().unwrap();
    let mut nar = child.stdout.take().unwrap();
    let mut hash = Sha256::new();
    let nar_size = std::io::copy(&mut nar, &mut hash).unwrap();
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(Expected {
        path: "00000000000000000000000000000000-tree".parse().unwrap(),
        nar_hash: NarHash::new(hash.finalize().into()),
        nar_size,
    })
}

/// Packs what must make the very NAR that Nix made: `pack` compares hash and size.
fn packed(path: &Path, expected: &Expected, case_hack: bool) -> Packed {
    let (options, cancel) = (options(case_hack), AtomicBool::new(false));
    let packed = pack(path, expected, &options, &cancel).unwrap();
    assert_eq!(list(path, expected, &options, &cancel).unwrap(), packed.listing);
    packed
}

fn refused(path: &Path, case_hack: bool) -> PackError {
    let expected = Expected {
        path: "00000000000000000000000000000000-tree".parse().unwrap(),
        nar_hash: NarHash::new([0; 32]),
        nar_size: 1,
    };
    pack(path, &expected, &options(case_hack), &AtomicBool::new(false)).unwrap_err()
}

/// SplitMix64: the same trees from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((n ^ (n >> 31)) % bound as u64) as usize
    }

    fn name(&mut self) -> OsString {
        let pieces = if self.below(12) == 0 { 60 } else { 1 + self.below(4) };
        let mut name: Vec<u8> = Vec::new();
        for _ in 0..pieces {
            let piece = PIECES[self.below(PIECES.len())];
            // macOS takes no names that are not UTF-8.
            if name.len() + piece.len() <= 255 && (cfg!(target_os = "linux") || piece[0] < 0x80) {
                name.extend_from_slice(piece);
            }
        }
        // What the case hack leaves of these is no name: Nix crashes or writes it all the same.
        if [&b""[..], b".", b".."].iter().any(|stem| {
            name.strip_prefix(*stem)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"~nix"))
        }) {
            name.insert(0, b'x');
            name.truncate(255);
        }
        OsStr::from_bytes(&name).to_owned()
    }

    fn node(&mut self, at: &Path, depth: usize) {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0..3 => {
                let size = SIZES[self.below(SIZES.len())];
                let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
                fs::write(at, bytes).unwrap();
                let mode = [0o644, 0o755, 0o444, 0o500, 0o611][self.below(5)];
                fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
            }
            3..5 => {
                let mut target = self.name();
                target.push(["", "/..", "/", "/../../../etc/passwd"][self.below(4)]);
                symlink(target, at).unwrap();
            }
            _ => self.folder(at, depth),
        }
    }

    fn folder(&mut self, at: &Path, depth: usize) {
        fs::create_dir(at).unwrap();
        for _ in 0..self.below(12) {
            let name = at.join(self.name());
            if fs::symlink_metadata(&name).is_err() {
                self.node(&name, depth - 1);
            }
        }
    }
}

#[test]
fn random_trees_make_the_nars_that_nix_dumps() {
    let seed = std::env::var("NIKS3_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("NIKS3_TEST_SEED={seed}");
    let (mut hacked, mut collided, mut not_utf8) = (0, 0, 0);
    for n in 0..TREES {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        Random(seed * 1000 + n).folder(&root, 4);
        let as_it_is = by_nix(&root, false).unwrap();
        let listing = packed(&root, &as_it_is, false).listing;
        not_utf8 += u32::from(matches!(listing, Listing::NotUtf8(_)));
        match by_nix(&root, true) {
            Ok(expected) => {
                hacked += u32::from(expected != as_it_is);
                packed(&root, &expected, true);
            }
            Err(error) if error.contains("collision") => {
                let ours = refused(&root, true);
                assert!(matches!(ours, PackError::Collision { .. }), "{n}: {ours} {error}");
                collided += 1;
            }
            Err(error) => panic!("{n}: {error}"),
        }
    }
    println!("{hacked} with the case hack, {collided} collisions, {not_utf8} not UTF-8");
    assert!(hacked > 0 && collided > 0 && not_utf8 > 0, "{hacked} {collided} {not_utf8}");
}

/// `count` folders, each in the next, made step by step: the whole path may be longer than a path may
/// be. Answers the last one, open.
fn nested(root: &Path, name: &str, count: usize) -> OwnedFd {
    fs::create_dir(root).unwrap();
    let open = |folder: BorrowedFd<'_>, name: &OsStr| {
        rustix::fs::openat(folder, name, OFlags::DIRECTORY, Mode::empty()).unwrap()
    };
    let mut folder = open(rustix::fs::CWD, root.as_os_str());
    for _ in 0..count {
        rustix::fs::mkdirat(&folder, name, Mode::RWXU).unwrap();
        folder = open(folder.as_fd(), name.as_ref());
    }
    folder
}

#[test]
fn a_name_of_which_the_case_hack_leaves_nothing_is_refused() {
    for name in ["~nix~case~hack~1", ".~nix~case~hack~1", "..~nix~case~hack~1"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), "x").unwrap();
        packed(folder.path(), &by_nix(folder.path(), false).unwrap(), false);
        let error = refused(folder.path(), true);
        assert!(matches!(error, PackError::Encode { .. }), "{error}");
    }
}

#[test]
fn nesting_ends_where_that_of_nix_ends() {
    for count in [60, 61, 62, 63, 64, 70, 500, 3000] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        let last = nested(&root, "d", count);
        for file in [false, true] {
            if file {
                rustix::fs::symlinkat("target", &last, "link").unwrap();
            }
            match by_nix(&root, false) {
                Ok(expected) if count + usize::from(file) < 64 => {
                    packed(&root, &expected, false);
                }
                // An older Nix has no limit; a newer one has ours.
                by_nix => {
                    assert!(count + usize::from(file) >= 64, "{count} {file}: {by_nix:?}");
                    let error = refused(&root, false);
                    assert!(matches!(error, PackError::TooDeep { most: 64, .. }), "{error}");
                }
            }
        }
    }
}

#[test]
fn a_path_longer_than_a_path_may_be_is_packed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    let last = nested(&root, &"n".repeat(255), 40);
    let file =
        rustix::fs::openat(&last, "f".repeat(255), OFlags::CREATE | OFlags::WRONLY, Mode::RUSR);
    rustix::io::write(file.unwrap(), b"contents").unwrap();
    match by_nix(&root, false) {
        Ok(expected) => {
            assert!(matches!(packed(&root, &expected, false).listing, Listing::Json(_)))
        }
        // It goes by whole paths. Ours is right if it is read at all: its size is known.
        Err(error) => {
            assert!(error.contains("File name too long"), "{error}");
            let error = refused(&root, false);
            let PackError::Damaged(damaged) = error else { panic!("{error}") };
            // Per folder: entry ( name NAME node ( type directory entry … ) ), and so on.
            assert!(damaged.actual_bytes > 40 * 256 && damaged.actual_bytes < 40 * 512);
        }
    }
}

#[test]
fn a_large_file_of_holes_makes_the_nar_of_its_zeros() {
    let bytes: u64 =
        if std::env::var_os("NIKS3_TEST_LONG").is_some() { 5 << 30 } else { 300 << 20 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let mut file = fs::File::create(&path).unwrap();
    file.set_len(bytes).unwrap();
    for at in [0, bytes / 3, bytes - 5] {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(b"data!").unwrap();
    }
    let expected = by_nix(&path, false).unwrap();
    assert!(expected.nar_size > bytes);
    let packed = packed(&path, &expected, false);
    assert!(packed.bytes < bytes / 1000, "{}", packed.bytes);
}

#[test]
fn a_store_that_was_optimised_has_the_same_nars() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for name in ["one", "two", "three"] {
        fs::write(tree.join(name), "the same in all of them").unwrap();
    }
    let root = folder.path().join("root");
    let run = |args: &[&OsStr]| {
        let mut command = nix_store(folder.path());
        let output = command.arg("--store").arg(&root).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let added = run(&["--add".as_ref(), tree.as_ref()]);
    let real = root.join(added.trim_start_matches('/'));
    let expected = by_nix(&real, false).unwrap();
    let before = packed(&real, &expected, false);
    run(&["--optimise".as_ref()]);
    assert!(fs::metadata(real.join("one")).unwrap().nlink() > 1, "nothing was linked");
    let after = packed(&real, &expected, false);
    assert_eq!((before.file_hash, before.listing), (after.file_hash, after.listing));
    // Store paths are read-only, folders too.
    Command::new("chmod").args(["-R", "u+w"]).arg(&root).status().unwrap();
}
