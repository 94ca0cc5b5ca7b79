//! One run: what it was asked, how far it is, and that it is the only one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use niks3_core::wire::{CollectPhase, CollectProgress, CollectRequest};
use tracing::info;

use super::{CollectError, clock::Clock, condemn, expire, preview, sweep};
use crate::{
    store::{self, CollectionLock},
    trust,
    upload::Uploads,
};

/// How often the progress is written down for those who follow it.
const NOTED_EVERY: Duration = Duration::from_millis(500);

/// A run under way.
pub(super) struct Run<'a> {
    pub(super) cx: &'a Arc<Uploads>,
    pub(super) progress: CollectProgress,
    /// What is old is older than at this time, the database's: a push during the run is not.
    started_at: f64,
    number: i64,
    request: CollectRequest,
    lock: CollectionLock,
    noted: Instant,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        cx: &'a Arc<Uploads>,
        lock: CollectionLock,
        request: CollectRequest,
        (number, started_at): (i64, f64),
    ) -> Self {
        let (progress, noted) = (CollectProgress::default(), Instant::now());
        Self { cx, progress, started_at, number, request, lock, noted }
    }

    /// All of it. What it has done so far is in `progress`, however it ends.
    pub(super) async fn collect(&mut self) -> Result<(), CollectError> {
        trust::check(self.cx).await?;
        if self.request.dry_run {
            return preview::preview(self).await;
        }
        // Before anything expires: a clock that has jumped makes everything old.
        Clock::measure(self.cx).await?;
        trust::next_generation(self.cx).await?;
        self.enter(CollectPhase::FailedUploads).await?;
        expire::failed_uploads(self).await?;
        self.enter(CollectPhase::OldClosures).await?;
        expire::old_closures(self).await?;
        self.enter(CollectPhase::Condemn).await?;
        condemn::condemn(self).await?;
        self.enter(CollectPhase::Delete).await?;
        sweep::sweep(self).await
    }

    /// Without a sign of life for so long, an upload has failed.
    pub(super) fn silent(&self) -> Duration {
        Duration::from_secs(self.request.failed_uploads_older_than)
    }

    /// Closures that were last pushed before are old: seconds since 1970.
    pub(super) fn pushed_before(&self) -> f64 {
        self.started_at - self.request.older_than as f64
    }

    /// Whether there is no grace.
    pub(super) fn force(&self) -> bool {
        self.request.force
    }

    /// How long something has to be garbage before it is deleted.
    pub(super) fn grace(&self) -> Duration {
        match self.force() {
            true => Duration::ZERO,
            false => Duration::from_secs(self.request.failed_uploads_older_than),
        }
    }

    async fn enter(&mut self, phase: CollectPhase) -> Result<(), CollectError> {
        info!(gc.run = self.number, gc.phase = ?phase, "garbage collection goes on");
        self.progress.phase = phase;
        self.note().await
    }

    /// Between two steps: goes on only while the lock is ours, and says now and then how far it is.
    pub(super) async fn keep(&mut self) -> Result<(), CollectError> {
        self.lock.check().await.map_err(CollectError::LockLost)?;
        if self.noted.elapsed() < NOTED_EVERY { Ok(()) } else { self.note().await }
    }

    async fn note(&mut self) -> Result<(), CollectError> {
        self.noted = Instant::now();
        let connection = self.cx.store.connection().await?;
        Ok(store::note_progress(&connection, self.number, &self.progress).await?)
    }
}
