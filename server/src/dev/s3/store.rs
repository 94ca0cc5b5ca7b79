//! The objects: `s3s-fs`, and around it what a cache relies on and `s3s-fs` 0.14.1 does not do.
//!
//! - A body that is refused for its length or digest leaves what was there before.
//! - The bytes of an object, its headers and its ETag are always of the same PUT, whoever else
//!   writes or reads the key meanwhile.
//! - A write is not dropped half way because its client has gone.
//! - The ETags, sizes and order of parts are checked before an upload is completed, not while it
//!   is being taken apart.
//! - What does not exist is answered with 404: a bucket, a folder in it, a finished upload.
//! - A delete leaves nothing behind, and tells key by key what failed.
//! - Keys in listings are encoded when that was asked for, and a page has 1000 at most.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use s3s::{S3, S3Error, S3Request, S3Response, S3Result, dto::*, s3_error};
use s3s_fs::FileSystem;
use tokio::{fs, sync::Semaphore};

use super::{
    EmbeddedS3Error,
    body::{Check, Expected, Verdict},
    locks::Locks,
    names::{Names, UploadNames},
    parts,
};

/// Writes at once; further ones wait. Each has a file open, or two.
const MAX_WRITES: u32 = 256;
/// Parts of one upload: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const MAX_PARTS: i32 = 10_000;

/// The objects under one folder.
#[derive(Clone)]
pub(super) struct Store(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) files: FileSystem,
    pub(super) root: PathBuf,
    /// By bucket and key. Writing: while files change their names. Reading: while they are opened.
    pub(super) keys: Locks,
    /// By upload. Taken before a key's.
    uploads: Locks,
    writes: Arc<Semaphore>,
    /// Held as long as anything is written.
    _lock: File,
}

impl Store {
    /// Removes what an earlier run had not received in full.
    pub(super) fn open(root: &Path, lock: File) -> Result<Self, EmbeddedS3Error> {
        let files = FileSystem::new(root).map_err(|error| EmbeddedS3Error::Storage {
            root: root.to_owned(),
            reason: format!("{error:?}"),
        })?;
        let root = root.canonicalize().map_err(super::io_error("find", root.to_owned()))?;
        Ok(Self(Arc::new(Shared {
            files,
            root,
            keys: Locks::new(),
            uploads: Locks::new(),
            writes: Arc::new(Semaphore::new(MAX_WRITES as usize)),
            _lock: lock,
        })))
    }

    /// Waits until nothing is being written, when no new connection brings more.
    pub(super) async fn writes_done(&self) {
        // The semaphore is never closed, so there is no other outcome.
        let _all = self.0.writes.acquire_many(MAX_WRITES).await;
    }

    /// Runs a write to its end. Otherwise:
    ///   1. a client sends all of a body and hangs up
    ///   2. its connection is dropped, and with it whatever it was waiting for
    ///   3. the object is there, without the Content-Encoding that goes with it
    pub(super) async fn to_its_end<T: Send + 'static>(
        &self,
        write: impl Future<Output = S3Result<T>> + Send + 'static,
    ) -> S3Result<T> {
        let permit = Arc::clone(&self.0.writes).acquire_owned().await;
        let permit = permit.map_err(S3Error::internal_error)?;
        let task = tokio::spawn(async move {
            let result = write.await;
            drop(permit);
            result
        });
        task.await.map_err(S3Error::internal_error)?
    }
}

impl Shared {
    pub(super) fn names(&self, bucket: &str, key: &str) -> Names {
        Names::new(&self.root, bucket, key)
    }

    pub(super) async fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        match fs::metadata(self.root.join(bucket)).await {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            _ => Err(s3_error!(NoSuchBucket)),
        }
    }

    /// An object is a file: the `nar` of `nar/…` is none.
    pub(super) async fn check_object(&self, names: &Names, bucket: &str) -> S3Result<()> {
        self.check_bucket(bucket).await?;
        if names.check().is_err() {
            return Err(s3_error!(NoSuchKey));
        }
        match fs::metadata(names.object()).await {
            Ok(metadata) if metadata.is_file() => Ok(()),
            _ => Err(s3_error!(NoSuchKey)),
        }
    }

    pub(super) async fn put(
        &self,
        mut req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = &mut req.input;
        let names = self.names(&input.bucket, &input.key);
        self.check_bucket(&input.bucket).await?;
        names.check()?;

        let check = Check::default();
        let expected = expected(input.content_length, &input.content_md5, &input.checksum_sha256)?;
        let key = self.keys.of((&input.bucket, &input.key));
        input.body = input.body.take().map(|body| check.body(body, expected, key));
        let result = self.files.put_object(req).await;
        match (check.verdict(), result) {
            (Verdict::Refused(refusal), Err(_)) => Err(refusal),
            (Verdict::Accepted(guard), Err(error)) => {
                // Refused after all: for a checksum that s3s-fs looks at when the object is
                // already in its place.
                remove(&names).await.map_err(S3Error::internal_error)?;
                drop(guard);
                Err(error)
            }
            (_guard, result) => result,
        }
    }

    pub(super) async fn put_part(
        &self,
        mut req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = &mut req.input;
        let upload = self.upload(&input.bucket, &input.key, &input.upload_id).await?;
        let number = input.part_number;
        if !(1..=MAX_PARTS).contains(&number) {
            return Err(s3_error!(InvalidArgument, "part numbers go from 1 to {MAX_PARTS}"));
        }

        let check = Check::default();
        let expected = expected(input.content_length, &input.content_md5, &input.checksum_sha256)?;
        let lock = self.uploads.of(&input.upload_id);
        input.body = input.body.take().map(|body| check.body(body, expected, lock));
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let upload_id = input.upload_id.clone();
        let result = self.files.upload_part(req).await;
        match (check.verdict(), result) {
            (Verdict::Refused(refusal), _) => Err(refusal),
            (Verdict::Accepted(_guard), Ok(response)) => {
                // The upload may have ended while this part was on its way.
                if let Err(gone) = self.upload(&bucket, &key, &upload_id).await {
                    remove_file(&upload.part(number)).await.map_err(S3Error::internal_error)?;
                    return Err(gone);
                }
                let etag = response.output.e_tag.as_ref().map_or("", ETag::value);
                let path = upload.part_etag(number);
                fs::write(path, etag).await.map_err(S3Error::internal_error)?;
                Ok(response)
            }
            (_, result) => result,
        }
    }

    pub(super) async fn complete(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = &req.input;
        let names = self.names(&input.bucket, &input.key);
        let _upload = self.uploads.of(&input.upload_id).write_owned().await;
        let upload = self.upload(&input.bucket, &input.key, &input.upload_id).await?;
        self.check_bucket(&input.bucket).await?;

        let stored = parts::stored(&self.root, &upload).await?;
        let named = input.multipart_upload.as_ref().and_then(|named| named.parts.as_deref());
        parts::check(named.unwrap_or_default(), &stored)?;

        let _key = self.keys.of((&input.bucket, &input.key)).write_owned().await;
        // s3s-fs would go on with the checksums of the object that was there before.
        remove_file(&names.etag()).await.map_err(S3Error::internal_error)?;
        let response = self.files.complete_multipart_upload(req).await?;
        for part in &stored {
            for path in [upload.part(part.number), upload.part_etag(part.number)] {
                remove_file(&path).await.map_err(S3Error::internal_error)?;
            }
        }
        Ok(response)
    }

    pub(super) async fn abort(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = &req.input;
        let _upload = self.uploads.of(&input.upload_id).write_owned().await;
        self.upload(&input.bucket, &input.key, &input.upload_id).await?;
        self.files.abort_multipart_upload(req).await
    }

    /// An upload that is under way, for just this object.
    pub(super) async fn upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> S3Result<UploadNames> {
        let names = self.names(bucket, key);
        let upload = UploadNames::new(&self.root, upload_id);
        match upload.filter(|_| names.check_for_upload().is_ok()) {
            Some(upload) if fs::try_exists(names.upload(upload_id)).await.unwrap_or(false) => {
                Ok(upload)
            }
            _ => Err(s3_error!(NoSuchUpload)),
        }
    }

    pub(super) async fn delete(&self, bucket: &str, key: &str) -> io::Result<()> {
        let names = self.names(bucket, key);
        if names.check().is_err() {
            return Ok(()); // There cannot be such an object.
        }
        let _key = self.keys.of((bucket, key)).write_owned().await;
        remove(&names).await
    }
}

fn expected(
    length: Option<i64>,
    md5: &Option<String>,
    sha256: &Option<String>,
) -> S3Result<Expected> {
    Expected::new(length, md5.as_deref(), sha256.as_deref())
}

/// Removes an object with all that belongs to it. The folder it lay in stays: a PUT may just be
/// about to put another object there.
async fn remove(names: &Names) -> io::Result<()> {
    match remove_file(&names.object()).await {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => return Ok(()),
        result => result?,
    }
    remove_file(&names.headers()).await?;
    remove_file(&names.etag()).await
}

/// That there is none is as good.
async fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(()),
        result => result,
    }
}
