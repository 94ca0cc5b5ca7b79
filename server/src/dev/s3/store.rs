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
//!
//! What is not here, such as copies, is answered with 501.

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
    EmbeddedS3Error, MAX_CONNECTIONS,
    body::{Check, Expected, Verdict},
    listing,
    locks::Locks,
    names::{Names, UploadNames},
    parts,
};

/// Writes at once. Each connection has one, so none waits but for those whose client has gone.
const MAX_WRITES: u32 = MAX_CONNECTIONS as u32;
/// Keys in one DeleteObjects:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>
const MAX_DELETES: usize = 1000;
/// Parts of one upload: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const MAX_PARTS: i32 = 10_000;

/// The objects under one folder.
#[derive(Clone)]
pub(super) struct Store(Arc<Shared>);

struct Shared {
    files: FileSystem,
    root: PathBuf,
    /// By bucket and key. Writing: while files change their names. Reading: while they are opened.
    keys: Locks,
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
            writes: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
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
    async fn to_its_end<T: Send + 'static>(
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
    fn names(&self, bucket: &str, key: &str) -> Names {
        Names::new(&self.root, bucket, key)
    }

    async fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        match fs::metadata(self.root.join(bucket)).await {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            _ => Err(s3_error!(NoSuchBucket)),
        }
    }

    /// An object is a file: the `nar` of `nar/…` is none.
    async fn check_object(&self, names: &Names, bucket: &str) -> S3Result<()> {
        self.check_bucket(bucket).await?;
        if names.check().is_err() {
            return Err(s3_error!(NoSuchKey));
        }
        match fs::metadata(names.object()).await {
            Ok(metadata) if metadata.is_file() => Ok(()),
            _ => Err(s3_error!(NoSuchKey)),
        }
    }

    async fn put(
        &self,
        mut req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = &mut req.input;
        let names = self.names(&input.bucket, &input.key);
        self.check_bucket(&input.bucket).await?;
        names.check()?;

        let check = Check::default();
        let expected = Expected::new(input.content_length, input.content_md5.as_deref())?;
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

    async fn put_part(
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
        let expected = Expected::new(input.content_length, input.content_md5.as_deref())?;
        let lock = self.uploads.of(&input.upload_id);
        input.body = input.body.take().map(|body| check.body(body, expected, lock));
        let result = self.files.upload_part(req).await;
        match (check.verdict(), result) {
            (Verdict::Refused(refusal), _) => Err(refusal),
            (Verdict::Accepted(_guard), Ok(response)) => {
                let etag = response.output.e_tag.as_ref().map_or("", ETag::value);
                let path = upload.part_etag(number);
                fs::write(path, etag).await.map_err(S3Error::internal_error)?;
                Ok(response)
            }
            (_, result) => result,
        }
    }

    async fn complete(
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

    async fn abort(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = &req.input;
        let _upload = self.uploads.of(&input.upload_id).write_owned().await;
        self.upload(&input.bucket, &input.key, &input.upload_id).await?;
        self.files.abort_multipart_upload(req).await
    }

    /// An upload that is under way, for just this object.
    async fn upload(&self, bucket: &str, key: &str, upload_id: &str) -> S3Result<UploadNames> {
        let names = self.names(bucket, key);
        let upload = UploadNames::new(&self.root, upload_id);
        match upload.filter(|_| names.check_for_upload().is_ok()) {
            Some(upload) if fs::try_exists(names.upload(upload_id)).await.unwrap_or(false) => {
                Ok(upload)
            }
            _ => Err(s3_error!(NoSuchUpload)),
        }
    }

    async fn delete(&self, bucket: &str, key: &str) -> io::Result<()> {
        let names = self.names(bucket, key);
        if names.check().is_err() {
            return Ok(()); // There cannot be such an object.
        }
        let _key = self.keys.of((bucket, key)).write_owned().await;
        remove(&names).await
    }
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

#[async_trait::async_trait]
impl S3 for Store {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.0.files.create_bucket(req).await
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.0.files.head_bucket(req).await
    }

    async fn list_buckets(
        &self,
        req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        self.0.files.list_buckets(req).await
    }

    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let store = self.clone();
        self.to_its_end(async move { store.0.put(req).await }).await
    }

    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let (bucket, key) = (&req.input.bucket, &req.input.key);
        let names = self.0.names(bucket, key);
        // Until the file is open: what is renamed over it or deleted then is no longer read.
        let _key = self.0.keys.of((bucket, key)).read_owned().await;
        self.0.check_object(&names, bucket).await?;
        self.0.files.get_object(req).await
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let (bucket, key) = (&req.input.bucket, &req.input.key);
        let names = self.0.names(bucket, key);
        let _key = self.0.keys.of((bucket, key)).read_owned().await;
        self.0.check_object(&names, bucket).await?;
        self.0.files.head_object(req).await
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let store = self.clone();
        self.to_its_end(async move {
            let DeleteObjectInput { bucket, key, .. } = req.input;
            store.0.check_bucket(&bucket).await?;
            store.0.delete(&bucket, &key).await.map_err(S3Error::internal_error)?;
            Ok(S3Response::new(DeleteObjectOutput::default()))
        })
        .await
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let store = self.clone();
        self.to_its_end(async move {
            let DeleteObjectsInput { bucket, delete, .. } = req.input;
            store.0.check_bucket(&bucket).await?;
            if delete.objects.len() > MAX_DELETES {
                return Err(s3_error!(MalformedXML, "more than {MAX_DELETES} keys"));
            }
            let (mut deleted, mut errors) = (Vec::new(), Vec::new());
            for ObjectIdentifier { key, .. } in delete.objects {
                match store.0.delete(&bucket, &key).await {
                    Ok(()) => deleted.push(DeletedObject { key: Some(key), ..Default::default() }),
                    Err(error) => errors.push(Error {
                        key: Some(key),
                        code: Some("InternalError".to_owned()),
                        message: Some(error.to_string()),
                        ..Default::default()
                    }),
                }
            }
            let quiet = delete.quiet.unwrap_or(false);
            Ok(S3Response::new(DeleteObjectsOutput {
                deleted: (!quiet).then_some(deleted),
                errors: Some(errors),
                ..Default::default()
            }))
        })
        .await
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.0.check_bucket(&req.input.bucket).await?;
        listing::page(&self.0.files, req).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let (bucket, key) = (&req.input.bucket, &req.input.key);
        self.0.check_bucket(bucket).await?;
        self.0.names(bucket, key).check_for_upload()?;
        let store = self.clone();
        self.to_its_end(async move { store.0.files.create_multipart_upload(req).await }).await
    }

    async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let store = self.clone();
        self.to_its_end(async move { store.0.put_part(req).await }).await
    }

    async fn list_parts(
        &self,
        req: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let upload = self.0.upload(&input.bucket, &input.key, &input.upload_id).await?;
        let stored = parts::stored(&self.0.root, &upload).await?;
        Ok(S3Response::new(parts::page(input, stored)))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let store = self.clone();
        self.to_its_end(async move { store.0.complete(req).await }).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let store = self.clone();
        self.to_its_end(async move { store.0.abort(req).await }).await
    }
}
