//! Where `s3s-fs` keeps what: the names of its files, and which keys can have such names.
//!
//! An object is `<bucket>/<key>`. Beside the buckets lie, for each object, a file with its
//! headers and one with its ETag, and what there is of unfinished multipart uploads.

use std::path::{Component, Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use s3s::{S3Result, s3_error};

/// Bytes in the name of a file, on every file system that matters.
const MAX_FILE_NAME: usize = 255;
/// The length of an upload's id, a UUID.
const UPLOAD_ID_LENGTH: usize = 36;

/// The files of one object.
#[derive(Clone, Debug)]
pub(super) struct Names {
    root: PathBuf,
    bucket: String,
    key: String,
}

impl Names {
    pub(super) fn new(root: &Path, bucket: &str, key: &str) -> Self {
        Self { root: root.to_owned(), bucket: bucket.to_owned(), key: key.to_owned() }
    }

    pub(super) fn bucket_dir(&self) -> PathBuf {
        self.root.join(&self.bucket)
    }

    pub(super) fn object(&self) -> PathBuf {
        self.bucket_dir().join(&self.key)
    }

    /// Its Content-Type, Content-Encoding and the like.
    pub(super) fn headers(&self) -> PathBuf {
        self.beside(".metadata.json")
    }

    /// Its ETag and checksums.
    pub(super) fn etag(&self) -> PathBuf {
        self.beside(".internal.json")
    }

    /// The headers of an object that is being uploaded in parts: exists while the upload does.
    pub(super) fn upload(&self, upload_id: &str) -> PathBuf {
        self.beside(&format!(".upload-{upload_id}.metadata.json"))
    }

    /// Key and id of the upload in parts whose file in the root has this name, if it is of `bucket`.
    pub(super) fn upload_in(bucket: &str, file: &str) -> Option<(String, String)> {
        let bucket = URL_SAFE_NO_PAD.encode(bucket);
        let rest = file.strip_prefix(&format!(".bucket-{bucket}.object-"))?;
        let (key, rest) = rest.split_once(".upload-")?;
        let key = String::from_utf8(URL_SAFE_NO_PAD.decode(key).ok()?).ok()?;
        Some((key, rest.strip_suffix(".metadata.json")?.to_owned()))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let (bucket, key) = (encoded(&self.bucket), encoded(&self.key));
        self.root.join(format!(".bucket-{bucket}.object-{key}{suffix}"))
    }

    /// Refuses a key that cannot be a file in the bucket's folder, and nowhere else.
    pub(super) fn check(&self) -> S3Result<()> {
        let path = Path::new(&self.key);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        // `components` passes over empty parts and `.`, which are other names for the same file.
        let canonical = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
        if self.key.is_empty() || self.key.contains('\0') || !plain || !canonical {
            return Err(s3_error!(InvalidArgument, "this key cannot be a file name"));
        }
        self.check_length("")
    }

    /// The same for an upload in parts, of which one file has a longer name.
    pub(super) fn check_for_upload(&self) -> S3Result<()> {
        self.check()?;
        self.check_length(&"-".repeat(UPLOAD_ID_LENGTH))
    }

    fn check_length(&self, upload_id: &str) -> S3Result<()> {
        let longest = match upload_id {
            "" => self.headers(),
            upload_id => self.upload(upload_id),
        };
        let parts = Path::new(&self.key).components().map(Component::as_os_str);
        if parts.chain(longest.file_name()).any(|name| name.len() > MAX_FILE_NAME) {
            return Err(s3_error!(KeyTooLongError, "this key is too long for a file name"));
        }
        Ok(())
    }
}

/// The files of one upload in parts, whatever its object.
#[derive(Clone, Debug)]
pub(super) struct UploadNames {
    root: PathBuf,
    id: String,
}

impl UploadNames {
    /// Only for an id that may be one: it becomes part of a file name.
    pub(super) fn new(root: &Path, id: &str) -> Option<Self> {
        let valid = id.len() == UPLOAD_ID_LENGTH
            && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        valid.then(|| Self { root: root.to_owned(), id: id.to_owned() })
    }

    pub(super) fn part(&self, number: i32) -> PathBuf {
        self.root.join(format!(".upload_id-{}.part-{number}", self.id))
    }

    /// Ours: which ETag the part was given. `s3s-fs` does not remember.
    pub(super) fn part_etag(&self, number: i32) -> PathBuf {
        self.root.join(format!("{}{number}", self.part_etag_prefix()))
    }

    /// How the names of all those begin. Aborting, `s3s-fs` removes all `.upload_id-<id>…`.
    pub(super) fn part_etag_prefix(&self) -> String {
        format!(".upload_id-{}.etag-", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(key: &str) -> Names {
        Names::new(Path::new("/s3"), "cache", key)
    }

    #[test]
    fn a_key_that_would_be_another_file_is_refused() {
        for key in ["a", "nar/a.nar.zst", "log/a+b c%2F?=.drv", "a/...", ".a", "\u{fc}"] {
            assert!(names(key).check().is_ok(), "{key:?}");
        }
        for key in ["", ".", "..", "a/../b", "./a", "a/.", "a//b", "a/", "/a", "a\0b"] {
            assert!(names(key).check().is_err(), "{key:?}");
        }
    }

    #[test]
    fn an_upload_in_parts_is_known_by_the_name_of_its_file() {
        let file = names("nar/a").upload("0192ab4c").file_name().unwrap().to_owned();
        let file = file.to_str().unwrap();
        let found = Some(("nar/a".to_owned(), "0192ab4c".to_owned()));
        assert_eq!(Names::upload_in("cache", file), found);
        assert_eq!(Names::upload_in("other", file), None);
        let headers = names("nar/a").headers();
        assert_eq!(Names::upload_in("cache", headers.file_name().unwrap().to_str().unwrap()), None);
    }

    #[test]
    fn a_key_has_163_bytes_at_most_and_130_in_parts_when_the_bucket_has_5() {
        assert!(names(&"k".repeat(163)).check().is_ok());
        assert!(names(&"k".repeat(164)).check().is_err());
        assert!(names(&"k".repeat(130)).check_for_upload().is_ok());
        assert!(names(&"k".repeat(131)).check_for_upload().is_err());
    }

    #[test]
    fn an_upload_id_cannot_lead_elsewhere() {
        let id = "0192ab4c-0000-4000-8000-0123456789ab";
        let upload = UploadNames::new(Path::new("/s3"), id).unwrap();
        assert_eq!(upload.part(7), Path::new(&format!("/s3/.upload_id-{id}.part-7")));
        assert!(UploadNames::new(Path::new("/s3"), "../../etc/passwd").is_none());
        assert!(UploadNames::new(Path::new("/s3"), &"/".repeat(36)).is_none());
    }
}
