//! Deleting one object. Garbage collection deletes many at once.

use bytes::Bytes;
use jiff::Timestamp;
use niks3_core::object_key::ObjectKey;
use reqwest::{Method, StatusCode};
use rusty_s3::S3Action as _;

use super::{Bucket, S3Error, request::REQUEST_TIMEOUT};

impl Bucket {
    /// Deletes an object; that there is none is as good. Tried once, so that the caller knows what may
    /// still be under way: it has recorded that the key may be changed for
    /// [`own_url`](super::Times::own_url) from `signed_at` on, and the slack.
    ///
    /// # Errors
    /// When S3 does not say that it is gone.
    pub async fn delete_once(&self, key: &ObjectKey, signed_at: f64) -> Result<(), S3Error> {
        let name = key.to_string();
        let signed_at = Timestamp::from_second(signed_at as i64).unwrap_or_default();
        let delete = self.bucket.delete_object(Some(&self.credentials), &name);
        let url = delete.sign_with_time(self.times.own_url(), &signed_at);
        let none = Bytes::new();
        match self.send_within(REQUEST_TIMEOUT, Method::DELETE, &name, url, &[], none).await {
            Ok(_) => Ok(()),
            Err(S3Error::Refused { status: StatusCode::NOT_FOUND, code, .. })
                if code.as_deref().is_none_or(|code| code == "NoSuchKey") =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
