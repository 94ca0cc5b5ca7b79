//! Every parser of bytes from outside, fed with what almost is what it reads.
//!
//! What it must do stands in `fuzz/shared.rs`, `client.rs` and `s3.rs`; here real samples are changed a
//! little, by bytes and by words. `cargo fuzz` looks longer and finds its own way: see CONTRIBUTING.md.
//! `NIKS3_TEST_SEED` draws other changes.

#![allow(clippy::unwrap_used)]

#[path = "../fuzz/client.rs"]
mod client;
#[path = "../fuzz/s3.rs"]
mod s3;
#[path = "../fuzz/shared.rs"]
mod shared;

use std::{fs, path::Path};

use niks3_core::{narinfo::FoundNarInfo, realisation::Realisation, store_path::StoreDir};
use rusty_s3::actions::{CreateMultipartUpload, DeleteObjectsResponse, ListObjectsV2};

/// Changed samples for each parser.
const CASES: usize = 20_000;

/// Of rows of a database, each of which is written and read.
const ROWS: usize = 1_000;

/// What is put in the place of words.
const WORDS: [&str; 40] = [
    "",
    "\n",
    "\r\n",
    "\0",
    " ",
    "\t",
    "/",
    "..",
    ".",
    "-",
    ":",
    "!",
    "^",
    "%2f",
    "%",
    "?",
    "=",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    "null",
    "true",
    "-1",
    "0",
    "1e9",
    "18446744073709551616",
    "9223372036854775808",
    "é",
    "\u{202e}",
    "sha256:",
    "sha1:",
    ".drv",
    ".narinfo",
    "nar/",
    "out",
    "/nix/store/",
];

/// SplitMix64: the same changes from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((n ^ (n >> 31)) % bound.max(1) as u64) as usize
    }

    /// Where a word begins and ends: letters and digits, or one other byte.
    fn word(&mut self, text: &[u8]) -> std::ops::Range<usize> {
        let at = self.below(text.len());
        let letter = |byte: &u8| byte.is_ascii_alphanumeric();
        if text.get(at).is_none_or(|byte| !letter(byte)) {
            return at..text.len().min(at + 1);
        }
        let begin = text[..at].iter().rposition(|byte| !letter(byte)).map_or(0, |at| at + 1);
        let end = text[at..].iter().position(|byte| !letter(byte));
        begin..end.map_or(text.len(), |end| at + end)
    }

    fn change(&mut self, text: &mut Vec<u8>, other: &[u8]) {
        let word = self.word(text);
        match self.below(9) {
            0 => drop(text.splice(word, WORDS[self.below(WORDS.len())].bytes())),
            1 => {
                let from = self.word(other);
                text.splice(word, other[from].to_vec());
            }
            2 => {
                let twice = text[word.clone()].to_vec();
                text.splice(word.start..word.start, twice);
            }
            3 => drop(text.drain(word)),
            4 => text.truncate(self.below(text.len() + 1)),
            5 => text.insert(self.below(text.len() + 1), self.below(256) as u8),
            6 if !text.is_empty() => {
                let at = self.below(text.len());
                text[at] ^= 1 << self.below(8);
            }
            7 => {
                let (from, to) = (self.below(text.len() + 1), self.below(other.len() + 1));
                text.truncate(from);
                text.extend_from_slice(&other[to..]);
            }
            _ => drop(text.splice(word.start..word.start, WORDS[self.below(WORDS.len())].bytes())),
        }
    }
}

/// Says what the parser was given when it panics.
struct Given<'a>(&'a str, &'a [u8]);

impl Drop for Given<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} was given b\"{}\"", self.0, self.1.escape_ascii());
        }
    }
}

fn feed(name: &str, parse: fn(&[u8]), samples: &[Vec<u8>], cases: usize) {
    let seed = std::env::var("NIKS3_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("NIKS3_TEST_SEED={seed}");
    let mut random = Random(seed);
    for n in 0..cases {
        let mut text = samples[n % samples.len()].clone();
        // The samples themselves first, then more and more of a change.
        for _ in 0..(n / samples.len()).min(1 + random.below(3)) {
            let other = &samples[random.below(samples.len())];
            random.change(&mut text, other);
        }
        let given = Given(name, &text);
        parse(given.1);
    }
}

fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.to_str().unwrap().ends_with(ending));
    files.sort();
    assert!(!files.is_empty(), "no {ending}");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

const HASH: &str = "sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h";
const NAR: &str =
    "nar/04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h-aaaaaaaaaaaaaaaaaaaaaaaa.nar.zst";
const SIGNATURE: &str = "binary-cache-test-1:T4P82kTRSrR2Y4RiZongrbQM45x6UtU/SUR/uNNn7vp8l6L1U3+MiZmYy6Hpc82ZaQdGkmBSHLl18JgS+LMSAA==";

#[test]
fn names_have_one_spelling_and_keys_stay_in_their_bucket() {
    let mut samples = texts([
        HASH,
        "sha256-MMjUR4ejzPRNN11RqT5+BfOPS31r5oZB1uGgZ4xrQRM=",
        "sha256:e5d45ab2a01a5fb1ee1cd2e1a2d8c1cbd2f0bdb3c8e2d0c9a0d5a3f6a7b8c9d0",
        SIGNATURE,
        "binary-cache-test-1:P3IA3lXplG9zVhw1oOFQ/5m/7r2uzWCnRGV3H7szHJ+whgW7HfXV47bf6lD0iCACdanLNPCi+O2VtvUvLPVt5g==",
        "1B2M2Y8AsgTpgAmY7PhCfg==",
        "fixed:r:sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h",
        "text:sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h",
        "26xbg1ndr7hbcncrlf9nhx5is2b25d13",
        "26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12.1.drv",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "release-1.2_x",
        "out",
        "0123456789abcdef0123456789abcdef01234567",
        "nix-cache-info",
        "26xbg1ndr7hbcncrlf9nhx5is2b25d13.narinfo",
        "26xbg1ndr7hbcncrlf9nhx5is2b25d13.ls",
        NAR,
        "pins/main",
        "generation/17-aaaaaaaaaaaaaaaaaaaaaaaa",
        "log/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12.1.drv",
        "build-trace-v2/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello.drv/out.doi",
        "debuginfo/0123456789abcdef0123456789abcdef01234567.debug",
    ]);
    samples.extend(texts(shared::OUTPUTS));
    samples.push(format!("realisations/{}.doi", shared::OUTPUTS[0]).into_bytes());
    feed("names", shared::names, &samples, CASES);
}

#[test]
fn a_narinfo_is_read_as_it_would_be_written() {
    let ours = format!(
        "StorePath: /nix/store/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello\nURL: {NAR}\nCompression: zstd\n\
         FileHash: {HASH}\nFileSize: 7\nNarHash: {HASH}\nNarSize: 112\n\
         References: 11xbg1ndr7hbcncrlf9nhx5is2b25d13-lib 26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello\n\
         Deriver: 11xbg1ndr7hbcncrlf9nhx5is2b25d13-hello.drv\nSig: {SIGNATURE}\n\
         CA: fixed:r:{HASH}\n"
    );
    let mut samples = vec![ours.clone().into_bytes(); 4];
    samples.extend(files("tests/data/nix/2.34.8/cache", ".narinfo").into_iter().take(4));
    assert!(FoundNarInfo::parse(&StoreDir::default(), &ours).is_ok(), "a poor sample");
    feed("narinfo", shared::narinfo, &samples, CASES);
}

#[test]
fn a_realisation_is_read_as_it_would_be_written() {
    let path = "26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello";
    let [hashed, _] = shared::OUTPUTS;
    let samples = [
        format!(
            r#"{{"dependentRealisations":{{"{hashed}":"{path}"}},"id":"{hashed}","outPath":"{path}","signatures":["{SIGNATURE}"]}}"#
        ),
        format!(r#"{{"id":"{hashed}","outPath":"{path}"}}"#),
        format!(r#"{{"outPath":"{path}","signatures":["{SIGNATURE}"]}}"#),
        format!(
            r#"{{"outPath":"{path}","signatures":[{{"keyName":"a","sig":"T4P82kTRSrR2Y4RiZongrbQM45x6UtU/SUR/uNNn7vp8l6L1U3+MiZmYy6Hpc82ZaQdGkmBSHLl18JgS+LMSAA=="}}]}}"#
        ),
    ];
    for (sample, id) in samples.iter().zip([0, 0, 1, 1]) {
        let id = shared::OUTPUTS[id].parse().unwrap();
        assert!(Realisation::parse(&id, sample).is_ok(), "a poor sample: {sample}");
    }
    feed("realisation", shared::realisation, &samples.map(String::into_bytes), CASES);
}

#[test]
fn debug_information_errors_of_s3_and_durations_are_read_or_refused() {
    let debug = format!(r#"{{"archive":"../{NAR}","member":"lib/debug/.build-id/01/23.debug"}}"#);
    let xml = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>x</Message></Error>";
    let samples = texts([&debug, xml, "1h30m", "30d", "99999999999999999999y", "0"]);
    feed("texts", shared::texts, &samples, CASES);
}

#[test]
fn every_body_of_the_api_is_read_as_it_would_be_written() {
    feed("wire", shared::wire, &files("core/tests/golden", ".json"), CASES);
}

#[test]
fn answers_of_s3_are_read_or_refused() {
    let samples = texts([
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult \
         xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix></Prefix><KeyCount>1\
         </KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents><Key>nar/a &amp; b\
         </Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;0&quot;</ETag><Size>7\
         </Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>",
        "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>b\
         </Bucket><Key>nar/a</Key><UploadId>1.x_-</UploadId></InitiateMultipartUploadResult>",
        "<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Deleted><Key>a</Key></Deleted>\
         <Error><Key>b</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>",
    ]);
    let text = |n: usize| std::str::from_utf8(&samples[n]).unwrap();
    assert_eq!(ListObjectsV2::parse_response(text(0)).unwrap().contents.len(), 1);
    assert!(CreateMultipartUpload::parse_response(text(1)).is_ok());
    assert_eq!(DeleteObjectsResponse::parse(text(2)).unwrap().errors.len(), 1);
    feed("s3", s3::answers, &samples, CASES);
}

#[test]
fn path_infos_of_every_shape_are_read_or_refused() {
    let mut samples = Vec::new();
    for version in ["2.8.0", "2.26.3", "2.34.8"] {
        samples.extend(files(&format!("tests/data/nix/{version}"), ".json"));
    }
    // Of these all paths are read each time, so they are cut down to two.
    let short = samples.iter().map(|json| two_of(json)).collect::<Vec<_>>();
    feed("path_info", client::path_info, &short, CASES);
}

/// The same JSON with two paths.
fn two_of(json: &[u8]) -> Vec<u8> {
    let mut json: serde_json::Value = serde_json::from_slice(json).unwrap();
    let paths = if json.get("info").is_some() { &mut json["info"] } else { &mut json };
    match paths {
        serde_json::Value::Array(list) => list.truncate(2),
        serde_json::Value::Object(map) => {
            let mut n = 0;
            map.retain(|_, _| {
                n += 1;
                n <= 2
            });
        }
        other => panic!("{other}"),
    }
    serde_json::to_vec(&json).unwrap()
}

#[test]
fn settings_lead_to_absolute_folders_or_are_refused() {
    let samples = texts([
        "/mnt/a b",
        "local?root=/mnt/a%20b&real=/r",
        "unix:///run/nix/socket?root=/x",
        "daemon",
        "ssh://host",
        "/nix/../store/",
        "include more.conf\nuse-case-hack = true # why\n!include /nix.conf\n",
    ]);
    feed("settings", client::settings, &samples, CASES);
}

#[test]
fn rows_of_the_database_are_read_or_refused() {
    let values = [
        "/nix/store/16xbg1ndr7hbcncrlf9nhx5is2b25d13-hello",
        "sha256:e5d45ab2a01a5fb1ee1cd2e1a2d8c1cbd2f0bdb3c8e2d0c9a0d5a3f6a7b8c9d0",
        "/nix/store/16xbg1ndr7hbcncrlf9nhx5is2b25d13-hello.drv",
        "1234",
        &format!("{SIGNATURE} {SIGNATURE}"),
        "fixed:r:sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h",
    ];
    let rows: Vec<Vec<u8>> = values
        .iter()
        .zip(0..)
        .map(|(value, column)| [&[column], value.as_bytes()].concat())
        .collect();
    feed("database", client::database, &rows, ROWS);
}
