//! Multipart uploads: clients send the parts through presigned URLs, the rest is ours.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use niks3_core::{
    hash::{BodyChecksum, ChecksumAlgorithm},
    object_key::ObjectKey,
    s3_error,
    wire::StoredPart,
};
use reqwest::{Method, StatusCode};
use rusty_s3::{
    Method as SignedMethod, S3Action as _,
    actions::{AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, UploadPart},
    signing::sign,
};

use super::{
    Body, Bucket, PresignedPut, S3Error,
    request::{PATIENCE, REQUEST_TIMEOUT},
};

/// How long completing one may take: S3 puts thousands of parts together. Where that is too short, or
/// a proxy before the server cuts the call off, the client calls again and the object is looked for.
pub const COMPLETE_TIME: Duration = Duration::from_secs(45);

impl Bucket {
    /// Opens a multipart upload; answers S3's name of it. Tried once: S3 may have opened one whose
    /// answer was lost, and a second one for the same key would hide it.
    ///
    /// # Errors
    /// When S3 does not open one.
    pub async fn open_multipart(&self, key: &ObjectKey) -> Result<String, S3Error> {
        let name = key.to_string();
        let mut headers: Vec<_> = self.object_headers(key).into_iter().collect();
        if self.checksum == ChecksumAlgorithm::Sha256 {
            // Or parts with such a checksum are refused.
            headers.push(("x-amz-checksum-algorithm".to_owned(), "SHA256".to_owned()));
        }
        let credentials = Some(&self.credentials);
        let mut open = CreateMultipartUpload::new(&self.bucket, credentials, &name);
        for (header, value) in &headers {
            open.headers_mut().insert(header.clone(), value.clone());
        }
        let (url, none) = (open.sign(self.times.own_url()), Bytes::new());
        let answer =
            self.send_within(REQUEST_TIMEOUT, Method::POST, &name, url, &headers, none).await?;
        let text = String::from_utf8_lossy(&answer.body);
        match CreateMultipartUpload::parse_response(&text) {
            Ok(opened) => Ok(opened.upload_id().to_owned()),
            Err(_) => Err(self.refused(Method::POST, &name, StatusCode::OK, &answer.body, None)),
        }
    }

    /// A URL that takes exactly `body` as a part, for `lifetime` from `signed_at` on.
    #[must_use]
    pub fn presign_part(
        &self,
        (key, s3_id): (&ObjectKey, &str),
        number: u16,
        body: Body,
        signed_at: f64,
        lifetime: Duration,
    ) -> PresignedPut {
        let name = key.to_string();
        let credentials = Some(&self.credentials);
        let mut put = UploadPart::new(&self.bucket, credentials, &name, number, s3_id);
        let headers = body.headers();
        for (header, value) in &headers {
            put.headers_mut().insert(header.clone(), value.clone());
        }
        let signed_at = Timestamp::from_second(signed_at as i64).unwrap_or_default();
        PresignedPut { url: put.sign_with_time(lifetime, &signed_at), headers }
    }

    /// Has S3 make one object of the parts, in the order of their numbers. Tried once: whoever
    /// asks looks at the object before it asks again. The caller has recorded that the key may be
    /// written for [`own_url`](super::Times::own_url) and [`COMPLETE_TIME`] from `signed_at` on.
    ///
    /// # Errors
    /// When S3 does not say that it did, also where it answers 200 with an error in the body:
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
    pub async fn complete_multipart(
        &self,
        key: &ObjectKey,
        s3_id: &str,
        parts: &[StoredPart],
        signed_at: f64,
    ) -> Result<(), S3Error> {
        let name = key.to_string();
        let credentials = Some(&self.credentials);
        let no_parts = std::iter::empty::<&str>();
        let action =
            CompleteMultipartUpload::new(&self.bucket, credentials, &name, s3_id, no_parts);
        let signed_at = Timestamp::from_second(signed_at as i64).unwrap_or_default();
        let url = action.sign_with_time(self.times.own_url(), &signed_at);
        let body = Bytes::from(complete_body(parts));
        let answer = self.send_within(COMPLETE_TIME, Method::POST, &name, url, &[], body).await?;
        if String::from_utf8_lossy(&answer.body).contains("<CompleteMultipartUploadResult") {
            return Ok(());
        }
        Err(self.refused(Method::POST, &name, StatusCode::OK, &answer.body, None))
    }

    /// Has S3 throw the parts away. That there is no such upload is as good.
    ///
    /// # Errors
    /// When S3 does not answer, or refuses.
    pub async fn abort_multipart(&self, key: &ObjectKey, s3_id: &str) -> Result<(), S3Error> {
        let name = key.to_string();
        let url = || {
            let credentials = Some(&self.credentials);
            AbortMultipartUpload::new(&self.bucket, credentials, &name, s3_id)
                .sign(self.times.own_url())
        };
        match self.send(Method::DELETE, &name, url, &[], Bytes::new(), PATIENCE).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_no_such_upload() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// S3's names of the multipart uploads that are open for a key, 1,000 at most: those whose
    /// opening was answered to nobody.
    ///
    /// # Errors
    /// When S3 does not answer, or refuses.
    pub async fn open_multiparts(&self, key: &ObjectKey) -> Result<Vec<String>, S3Error> {
        let name = key.to_string();
        let url = || {
            let query = [("prefix", name.as_str()), ("uploads", "")].into_iter();
            sign(
                &Timestamp::now(),
                SignedMethod::Get,
                self.bucket.base_url().clone(),
                self.credentials.key(),
                self.credentials.secret(),
                self.credentials.token(),
                self.bucket.region(),
                self.times.own_url().as_secs(),
                query,
                std::iter::empty(),
            )
        };
        let answer = self.send(Method::GET, &name, url, &[], Bytes::new(), PATIENCE).await?;
        let text = String::from_utf8_lossy(&answer.body);
        Ok(text.split("<Upload>").skip(1).filter_map(|upload| upload_of(upload, &name)).collect())
    }
}

/// Of an `<Upload>` in S3's answer its id, if it is for `key` and no longer one. Neither our keys
/// nor the ids of any S3 server have characters that XML escapes.
fn upload_of(xml: &str, key: &str) -> Option<String> {
    let text = |tag: &str| {
        let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(text, _)| text)
    };
    (text("Key")? == key).then(|| text("UploadId").map(str::to_owned))?
}

/// rusty-s3 makes one without checksums.
fn complete_body(parts: &[StoredPart]) -> String {
    let mut body =
        String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for part in parts {
        let (number, etag) = (part.number, s3_error::escaped(&part.etag));
        // Writing to a string does not fail.
        let _ = write!(body, "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>");
        if let BodyChecksum::Sha256(_) = part.checksum {
            let (_, checksum) = part.checksum.header();
            let _ = write!(body, "<ChecksumSHA256>{checksum}</ChecksumSHA256>");
        }
        body.push_str("</Part>");
    }
    body.push_str("</CompleteMultipartUpload>");
    body
}

#[cfg(test)]
mod tests {
    use niks3_core::hash::BodyMd5;

    use super::*;

    #[test]
    fn the_parts_are_named_as_s3_wants_them() {
        let checksum = BodyChecksum::Md5(BodyMd5::new([0; 16]));
        let part =
            |number, etag: &str| StoredPart { number, bytes: 1, etag: etag.to_owned(), checksum };
        assert_eq!(
            complete_body(&[part(1, "\"a\""), part(2, "<b>")]),
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag></Part>\
             <Part><PartNumber>2</PartNumber><ETag>&lt;b&gt;</ETag></Part>\
             </CompleteMultipartUpload>"
        );
    }

    #[test]
    fn only_uploads_of_the_very_key_are_found() {
        let xml = "<Uploads><Upload><Key>nar/a</Key><UploadId>1.x_-</UploadId></Upload>\
                   <Upload><Key>nar/ab</Key><UploadId>2</UploadId></Upload></Uploads>";
        let found: Vec<_> =
            xml.split("<Upload>").skip(1).filter_map(|xml| upload_of(xml, "nar/a")).collect();
        assert_eq!(found, ["1.x_-"]);
    }
}
