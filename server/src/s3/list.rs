//! Paging through the bucket.

use bytes::Bytes;
use niks3_core::verdict::Verdict;
use reqwest::{Method, StatusCode};
use rusty_s3::{S3Action as _, actions::ListObjectsV2};
use tokio::time::{Instant, sleep};

use super::{
    Bucket, S3Error,
    request::{PATIENCE, REQUEST_TIMEOUT},
};

/// Keys of a page: S3's limit.
pub const PAGE: usize = 1000;

/// Bytes of a page: some 400 for each key, and a kilobyte where a server tells much of each.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Tries of one page, and the pause between them.
const TRIES: u32 = 4;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// An object in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key, which need not be one of ours.
    pub key: String,
    /// Bytes of it.
    pub bytes: Option<u64>,
}

impl Bucket {
    /// The objects whose keys begin with `prefix` and come after `after` in byte order, [`PAGE`] of them
    /// at most. None: there are no more.
    ///
    /// # Errors
    /// When S3 does not answer, or what it answers is no listing.
    pub async fn list(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, S3Error> {
        let what = format!("the list of {prefix}*");
        let mut tries = 1;
        loop {
            let mut list = ListObjectsV2::new(&self.bucket, Some(&self.credentials));
            list.with_prefix(prefix);
            list.with_max_keys(PAGE);
            if !after.is_empty() {
                list.with_start_after(after);
            }
            let url = list.sign(self.times.own_url());
            let limits = (Instant::now() + PATIENCE, REQUEST_TIMEOUT, MAX_PAGE_BYTES);
            let sent = self.send_until(limits, Method::GET, &what, url, &[], Bytes::new()).await;
            let error = match sent {
                Ok(answer) => match parse(&answer.body) {
                    Some(page) => return Ok(page),
                    None => self.refused(Method::GET, &what, StatusCode::OK, &answer.body, None),
                },
                Err(error) => error,
            };
            if error.verdict() == Verdict::Final || tries == TRIES {
                return Err(error);
            }
            tries += 1;
            sleep(PAUSE).await;
        }
    }
}

fn parse(body: &[u8]) -> Option<Vec<Listed>> {
    let page = ListObjectsV2::parse_response(std::str::from_utf8(body).ok()?).ok()?;
    let listed = page.contents.into_iter().map(|one| Listed { key: one.key, bytes: one.size });
    Some(listed.collect())
}
