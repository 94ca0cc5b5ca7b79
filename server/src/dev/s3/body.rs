//! A body on its way into the store, checked before anyone can see it.
//!
//! `s3s-fs` writes a body to a temporary file and renames that when the body ends. So what is
//! wrong with a body has to be an error of the body: then there is no rename. And what the rename
//! must exclude, other writers and readers of the key, is locked just before the body ends: not
//! earlier, or a slow client would keep everybody else waiting.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use md5::{Digest as _, Md5};
use s3s::{S3Error, S3Result, dto::StreamingBlob, s3_error};
use sha2::Sha256;
use tokio::{
    sync::{OwnedRwLockWriteGuard, RwLock},
    time::timeout,
};

/// How long a client may pause in the middle of a body, before it loses its connection.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What the request says about its body, as far as it says so.
pub(super) struct Expected {
    length: Option<u64>,
    md5: Option<[u8; 16]>,
    sha256: Option<[u8; 32]>,
}

impl Expected {
    /// From the headers `Content-Length`, `Content-MD5` and `x-amz-checksum-sha256`.
    pub(super) fn new(
        length: Option<i64>,
        md5: Option<&str>,
        sha256: Option<&str>,
    ) -> S3Result<Self> {
        let length = length.and_then(|length| length.try_into().ok());
        let (md5, sha256) = (digest("MD5", md5)?, digest("SHA-256", sha256)?);
        Ok(Self { length, md5, sha256 })
    }
}

fn digest<const N: usize>(name: &str, text: Option<&str>) -> S3Result<Option<[u8; N]>> {
    let Some(text) = text else { return Ok(None) };
    let bytes = BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(Some).ok_or_else(|| s3_error!(InvalidDigest, "the {name} of the body is none"))
}

/// What became of a body.
#[derive(Default)]
pub(super) enum Verdict {
    /// It did not come to its end: the reader gave up.
    #[default]
    Unread,
    /// It is not what it should be, or did not arrive.
    Refused(S3Error),
    /// It is right, and the key is locked as long as this is kept.
    Accepted(OwnedRwLockWriteGuard<()>),
}

/// The place where the verdict will be.
#[derive(Clone, Default)]
pub(super) struct Check(Arc<Mutex<Verdict>>);

impl Check {
    /// The same body, which ends in an error if it is not as expected. Before it ends well, the
    /// key is locked.
    pub(super) fn body(
        &self,
        body: StreamingBlob,
        expected: Expected,
        key: Arc<RwLock<()>>,
    ) -> StreamingBlob {
        let reading = Reading {
            body,
            md5: expected.md5.map(|_| Md5::new()),
            sha256: expected.sha256.map(|_| Sha256::new()),
            expected,
            key,
            check: self.clone(),
            received: 0,
        };
        StreamingBlob::wrap(stream::try_unfold(reading, Reading::next))
    }

    /// Takes the verdict, and with it the lock.
    pub(super) fn verdict(&self) -> Verdict {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Verdict> {
        // Only ever replaced as a whole: nothing is half done after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reading {
    body: StreamingBlob,
    expected: Expected,
    key: Arc<RwLock<()>>,
    check: Check,
    received: u64,
    /// Of what has come so far, where there is something to compare it with.
    md5: Option<Md5>,
    sha256: Option<Sha256>,
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        match timeout(STALL_TIMEOUT, self.body.next()).await {
            Ok(Some(Ok(bytes))) => {
                self.received += bytes.len() as u64;
                if let Some(md5) = &mut self.md5 {
                    md5.update(&bytes);
                }
                if let Some(sha256) = &mut self.sha256 {
                    sha256.update(&bytes);
                }
                Ok(Some((bytes, self)))
            }
            Ok(None) => self.end().await,
            Ok(Some(Err(error))) => {
                let message = format!("the body broke off after {} bytes", self.received);
                let mut refusal = S3Error::with_message(s3s::S3ErrorCode::IncompleteBody, message);
                refusal.set_source(error);
                self.refuse(refusal)
            }
            Err(_) => self.refuse(s3_error!(RequestTimeout, "the body has stopped arriving")),
        }
    }

    async fn end(self) -> io::Result<Option<(Bytes, Self)>> {
        if let Some(length) = self.expected.length
            && length != self.received
        {
            let got = self.received;
            return self.refuse(s3_error!(IncompleteBody, "got {got} bytes of {length}"));
        }
        let md5: Option<[u8; 16]> = self.md5.clone().map(|md5| md5.finalize().into());
        let sha256: Option<[u8; 32]> = self.sha256.clone().map(|sha256| sha256.finalize().into());
        if self.expected.md5 != md5 || self.expected.sha256 != sha256 {
            return self.refuse(s3_error!(BadDigest, "the body does not have this checksum"));
        }
        let guard = Arc::clone(&self.key).write_owned().await;
        *self.check.lock() = Verdict::Accepted(guard);
        Ok(None)
    }

    fn refuse(self, refusal: S3Error) -> io::Result<Option<(Bytes, Self)>> {
        *self.check.lock() = Verdict::Refused(refusal);
        Err(io::Error::other("the body was refused"))
    }
}
