//! The calls that the server answers; to all others, such as copies, it says 501.

use s3s::{S3, S3Error, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{listing, parts, store::Store};

/// Keys in one DeleteObjects:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>
const MAX_DELETES: usize = 1000;

#[async_trait::async_trait]
impl S3 for Store {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.0.files.create_bucket(req).await
    }

    async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.0.files.delete_bucket(req).await
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

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.0.check_bucket(&req.input.bucket).await?;
        Ok(S3Response::new(parts::under_way(&self.0.root, req.input).await?))
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
