//! Deleting objects, a thousand at a time. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>
//!
//! Each request is presigned with the time of the claim and ends with it, so that a collector that was
//! paused cannot delete what somebody has uploaded since.

use std::{collections::HashSet, sync::atomic::Ordering};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use niks3_core::{hash::BodyChecksum, object_key::ObjectKey, verdict::Verdict};
use reqwest::{Method, StatusCode};
use rusty_s3::{
    S3Action as _,
    actions::{DeleteObjects, DeleteObjectsResponse, ObjectIdentifier},
};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use url::Url;

use super::{
    Bucket, S3Error,
    request::{Answer, REQUEST_TIMEOUT},
};

/// Keys that one request may name: S3's limit.
pub const MAX_BATCH: usize = 1000;

/// Bytes that are read of the answer to a batch: some 200 for each key, more where one failed.
const MAX_BATCH_ANSWER: usize = 1024 * 1024;

/// Requests at once where keys are deleted one by one; all of the server's stay within the pace.
const SINGLES_AT_ONCE: usize = 32;

/// Tries of one key that S3 fails to delete, the batch not counted.
const TRIES: u32 = 3;

/// Between two tries.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(300);

/// What became of one key.
#[derive(Debug)]
pub enum Deletion {
    /// It is not in the bucket, and no request that named it is under way.
    Gone,
    /// S3 did not delete it.
    Failed(S3Error),
    /// A request that named it was not answered, or not by S3 itself: it may be gone, or go later.
    Unanswered(S3Error),
}

/// When requests of one claim may be sent.
#[derive(Clone, Copy, Debug)]
pub struct Fence {
    /// What they are signed with: the database's time, seconds since 1970.
    pub signed_at: f64,
    /// None begins after this.
    pub until: Instant,
}

impl Bucket {
    /// Deletes objects, up to [`MAX_BATCH`] of them. Answers what became of each, in their order. One
    /// that is not there counts as deleted.
    pub async fn delete(&self, keys: &[ObjectKey], fence: Fence) -> Vec<Deletion> {
        if keys.len() < 2 || self.no_batch_delete.load(Ordering::Relaxed) {
            return self.delete_each(keys, fence).await;
        }
        match self.delete_batch(keys, fence).await {
            Ok(gone) => {
                // What S3 failed to delete, or said nothing about, is asked for one by one.
                let rest: Vec<ObjectKey> =
                    keys.iter().filter(|key| !gone.contains(*key)).cloned().collect();
                let mut rest = self.delete_each(&rest, fence).await.into_iter();
                let each = keys.iter().map(|key| match gone.contains(key) {
                    true => Deletion::Gone,
                    false => rest.next().unwrap_or(Deletion::Gone),
                });
                each.collect()
            }
            // Nobody knows what became of it, a proxy's word included. Another request would change
            // nothing about that.
            Err(error) if !error.is_over() => {
                let mut all = vec![Deletion::Unanswered(error)];
                all.extend(
                    keys.iter().skip(1).map(|key| {
                        Deletion::Unanswered(self.no_turn(Method::POST, &key.to_string()))
                    }),
                );
                all
            }
            Err(error @ S3Error::NoTurn { .. }) => {
                let mut all = vec![Deletion::Failed(error)];
                all.extend(
                    keys.iter()
                        .skip(1)
                        .map(|key| Deletion::Failed(self.no_turn(Method::POST, &key.to_string()))),
                );
                all
            }
            Err(error) => {
                self.note_batch_refused(&error);
                self.delete_each(keys, fence).await
            }
        }
    }

    /// Some stores have no batch delete; that is found out once. Others fail a whole batch for one key.
    fn note_batch_refused(&self, error: &S3Error) {
        let S3Error::Refused { status, code, .. } = error else { return };
        let unknown = [StatusCode::NOT_IMPLEMENTED, StatusCode::METHOD_NOT_ALLOWED]
            .contains(status)
            || code.as_deref() == Some("NotImplemented");
        if unknown {
            self.no_batch_delete.store(true, Ordering::Relaxed);
            info!("this S3 server deletes no batches; objects are deleted one by one");
        } else {
            warn!(cause = %error, "S3 refused to delete a batch; its objects are asked for one by one");
        }
    }

    /// Answers which keys are not there any more.
    async fn delete_batch(
        &self,
        keys: &[ObjectKey],
        fence: Fence,
    ) -> Result<HashSet<ObjectKey>, S3Error> {
        let objects: Vec<ObjectIdentifier> =
            keys.iter().map(|key| ObjectIdentifier::new(key.to_string())).collect();
        let credentials = Some(&self.credentials);
        let mut action = DeleteObjects::new(&self.bucket, credentials, objects.iter());
        let body = Bytes::from(action.clone().body_with_md5().0);
        let (name, value) = BodyChecksum::of(self.checksum, &body).header();
        action.headers_mut().insert(name, value.clone());
        let url = action.sign_with_time(self.times.delete_url(), &signed_at(fence));
        let headers =
            [(name.to_owned(), value), ("content-type".to_owned(), "application/xml".to_owned())];
        let what = format!("{} and {} more", keys[0], keys.len() - 1);
        let answer = self.within_fence(Method::POST, &what, url, &headers, body, fence).await?;
        let text = String::from_utf8_lossy(&answer.body);
        let Ok(deleted) = DeleteObjectsResponse::parse(&text) else {
            return Err(self.refused(Method::POST, &what, StatusCode::OK, &answer.body, None));
        };
        let missing = deleted.errors.into_iter().filter(|error| is_missing(&error.code));
        let gone = deleted.deleted.into_iter().map(|object| object.key);
        let gone = gone.chain(missing.map(|error| error.key));
        Ok(gone.filter_map(|key| key.parse().ok()).collect())
    }

    async fn delete_each(&self, keys: &[ObjectKey], fence: Fence) -> Vec<Deletion> {
        stream::iter(keys.to_vec())
            .map(|key| async move { self.delete_one(&key, fence).await })
            .buffered(SINGLES_AT_ONCE)
            .collect()
            .await
    }

    async fn delete_one(&self, key: &ObjectKey, fence: Fence) -> Deletion {
        let name = key.to_string();
        let action = self.bucket.delete_object(Some(&self.credentials), &name);
        let url = action.sign_with_time(self.times.delete_url(), &signed_at(fence));
        let mut tries = 1;
        loop {
            let none = Bytes::new();
            let sent = self.within_fence(Method::DELETE, &name, url.clone(), &[], none, fence);
            let error = match sent.await {
                Ok(_) => return Deletion::Gone,
                Err(S3Error::Refused {
                    status: StatusCode::NOT_FOUND, code: Some(code), ..
                }) if is_missing(&code) => {
                    return Deletion::Gone;
                }
                Err(error) if !error.is_over() => return Deletion::Unanswered(error),
                Err(error) => error,
            };
            if error.verdict() != Verdict::Again || tries == TRIES {
                return Deletion::Failed(error);
            }
            tries += 1;
            sleep(PAUSE).await;
        }
    }

    /// Sends a request as soon as the pace allows, again after each "slow down", and never after the
    /// fence: then it is an error that no request is under way for.
    async fn within_fence(
        &self,
        method: Method,
        what: &str,
        url: Url,
        headers: &[(String, String)],
        body: Bytes,
        fence: Fence,
    ) -> Result<Answer, S3Error> {
        loop {
            let sent = self
                .send_until(
                    (fence.until, REQUEST_TIMEOUT, MAX_BATCH_ANSWER),
                    method.clone(),
                    what,
                    url.clone(),
                    headers,
                    body.clone(),
                )
                .await;
            match sent {
                // A turn that came too late says the same, and has no request under way.
                Err(error @ S3Error::Refused { .. })
                    if error.verdict() == Verdict::SlowDown
                        // A proxy that wants fewer requests may have passed this one on.
                        && error.is_over()
                        && Instant::now() < fence.until => {}
                other => return other,
            }
        }
    }
}

fn signed_at(fence: Fence) -> Timestamp {
    Timestamp::from_second(fence.signed_at as i64).unwrap_or_default()
}

fn is_missing(code: &str) -> bool {
    ["NoSuchKey", "NotFound"].contains(&code)
}
