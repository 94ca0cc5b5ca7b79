//! `niks3-server resign`: after a change of keys, narinfos and realisations that are there get other
//! signatures. docs/decisions/resign.md says why it is safe.
//!
//! Texts are recorded first and sent after that. What is recorded and maybe not sent is in a list, so a run
//! that is killed loses nothing: the next one begins with it.

mod send;
mod show;

use std::time::{Duration, Instant};

use niks3_core::{
    object_key::{ObjectKey, ObjectKind},
    realisation::OutputId,
    resign::{ResignError as Unsignable, Resigning},
};
use serde::Serialize;
use tracing::info;

use crate::{
    s3::S3Error,
    store::{self, RecordedText, Resigned, SignedPage, StoreError},
    trust::{self, Distrust},
    upload::{self, UploadError, Uploads},
};

/// Texts of one transaction, and of one round of sending.
const CHUNK: usize = 500;

/// Texts that are waited for: those that somebody may be writing at this moment.
const MAX_WAITING: usize = 1_000_000;

/// Between two looks at these.
const PAUSE: Duration = Duration::from_secs(2);

/// Texts that could not be signed, by name.
const NAMED: usize = 20;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// Rounds of sending what S3 did not take before.
const SEND_ROUNDS: usize = 5;

/// Why not everything was signed anew. What was is in the bucket, or in the list for the next run.
#[derive(Debug, thiserror::Error)]
pub enum ResignError {
    /// Somebody else is at it.
    #[error("another `niks3-server resign` is under way; wait for it to end")]
    Busy,
    /// What the bucket has is not what is recorded.
    #[error(transparent)]
    Distrust(#[from] Distrust),
    /// The bucket, again and again.
    #[error("S3 did not take {0} texts that are signed anew; run this again to send them")]
    Unsent(usize),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A transaction.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The bucket.
    #[error(transparent)]
    S3(#[from] S3Error),
}

/// What was done.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Narinfos and realisations that are recorded.
    pub looked_at: u64,
    /// Those of them that have got other signatures.
    pub resigned: u64,
    /// Texts that were sent, those included that a run before has left.
    pub sent: u64,
    /// Texts that somebody was writing until the end.
    pub left: u64,
    /// Texts that were left as they are, since they cannot be signed otherwise.
    pub refused: u64,
    /// Some of these.
    pub refusals: Vec<Refusal>,
}

/// A text that cannot be signed otherwise.
#[derive(Debug, Serialize)]
pub struct Refusal {
    /// Its key.
    pub key: ObjectKey,
    /// Why.
    pub why: String,
}

/// Signs anew what is recorded, and sends it.
///
/// # Errors
/// When another run is under way, or database or bucket fail.
pub async fn resign(cx: &Uploads, resigning: &Resigning) -> Result<Report, ResignError> {
    trust::check(cx).await?;
    let lock = store::resign_lock(&cx.store).await?.ok_or(ResignError::Busy)?;
    let mut run =
        Run { cx, resigning, report: Report::default(), waiting: Vec::new(), told: Instant::now() };
    run.report.sent += send::round(cx).await?.sent;
    let mut after = 0;
    loop {
        let SignedPage { texts, last } = run.page(after).await?;
        let Some(last) = last else { break };
        after = last;
        run.report.looked_at += texts.len() as u64;
        lock.check().await?;
        run.chunk(texts).await?;
    }
    run.wait().await?;
    run.send_rest().await?;
    Ok(run.report)
}

struct Run<'a> {
    cx: &'a Uploads,
    resigning: &'a Resigning,
    report: Report,
    /// Rows of what somebody may be writing.
    waiting: Vec<i64>,
    told: Instant,
}

impl Run<'_> {
    async fn page(&self, after: i64) -> Result<SignedPage, UploadError> {
        upload::retry(|| async {
            let mut connection = self.cx.store.connection().await?;
            let tx = connection.begin().await?;
            Ok(store::signed_after(&tx, after, CHUNK).await?)
        })
        .await
    }

    /// Signs some texts, and sends what of that is in the bucket.
    async fn chunk(&mut self, texts: Vec<RecordedText>) -> Result<(), ResignError> {
        // Before the transaction: nobody waits for signatures.
        let resigned: Vec<Resigned> =
            texts.into_iter().filter_map(|text| self.sign(text)).collect();
        if !resigned.is_empty() {
            let recorded = upload::retry(|| async {
                let mut connection = self.cx.store.connection().await?;
                let tx = connection.begin().await?;
                tx.enter_gate().await?;
                let recorded = store::record_resigned(&tx, &resigned).await?;
                tx.commit().await?;
                Ok(recorded)
            })
            .await?;
            self.report.resigned += recorded.len() as u64;
            let busy = resigned.iter().map(|one| one.id).filter(|id| !recorded.contains(id));
            for id in busy {
                if self.waiting.len() < MAX_WAITING {
                    self.waiting.push(id);
                } else {
                    self.report.left += 1;
                }
            }
            self.report.sent += send::round(self.cx).await?.sent;
        }
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            let (looked_at, resigned) = (self.report.looked_at, self.report.resigned);
            info!(texts.sent = self.report.sent, "looked at {looked_at}, signed {resigned} anew");
        }
        Ok(())
    }

    /// The text with other signatures, if it has not exactly those already.
    fn sign(&mut self, text: RecordedText) -> Option<Resigned> {
        let RecordedText { id, key, text, .. } = text;
        let signed = match (key.kind(), OutputId::of_key(&key)) {
            (_, Some(output)) => self.resigning.realisation(&output, &text),
            (ObjectKind::NarInfo, None) => self.resigning.narinfo(&self.cx.store_dir, &text),
            // Nothing else has signatures.
            (_, None) => Ok(None),
        };
        match signed {
            Ok(after) => Some(Resigned { id, before: text, after: after? }),
            Err(why) => {
                self.refuse(key, &why);
                None
            }
        }
    }

    fn refuse(&mut self, key: ObjectKey, why: &Unsignable) {
        self.report.refused += 1;
        if self.report.refusals.len() < NAMED {
            self.report.refusals.push(Refusal { key, why: why.to_string() });
        }
    }

    /// Goes back to what somebody was writing, until nobody is. A push that goes on and on may take some of it
    /// again and again, so not for ever.
    async fn wait(&mut self) -> Result<(), ResignError> {
        let times = self.cx.bucket.times;
        let patience = times.writable(times.own_url(), 0) * 2;
        let until = Instant::now() + patience;
        while !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            if Instant::now() >= until {
                self.report.left += waiting.len() as u64;
                return Ok(());
            }
            info!("waiting for {} that somebody may be writing at this moment", waiting.len());
            tokio::time::sleep(PAUSE).await;
            for ids in waiting.chunks(CHUNK) {
                let texts = upload::retry(|| async {
                    let mut connection = self.cx.store.connection().await?;
                    let tx = connection.begin().await?;
                    Ok(store::recorded_texts(&tx, ids).await?)
                })
                .await?;
                self.chunk(texts).await?;
            }
        }
        Ok(())
    }

    /// Sends what S3 did not take at once.
    async fn send_rest(&mut self) -> Result<(), ResignError> {
        for round in 1.. {
            let sending = send::round(self.cx).await?;
            self.report.sent += sending.sent;
            match sending.failed {
                0 => break,
                failed if round == SEND_ROUNDS => return Err(ResignError::Unsent(failed)),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        Ok(())
    }
}
