//! Many askers, few calls: what is asked while a call is under way goes into the next one.

use std::sync::Arc;

use niks3_core::{
    limits::MAX_OBJECTS_PER_CALL,
    wire::{ObjectSpec, StoredRequest, UploadId, UrlAnswer, UrlsRequest},
};
use tokio::sync::{mpsc, oneshot};

use crate::api::{Api, ApiError};

/// Objects in one call for URLs. The server takes more; URLs are better young when they are used.
const URLS_AT_ONCE: usize = 100;

/// Reports that go into one call. The server looks for each NAR.
const REPORTS_AT_ONCE: usize = 200;

/// Objects in one call: one report may bring the listings of many paths with the same contents.
const OBJECTS_AT_ONCE: usize = MAX_OBJECTS_PER_CALL / 2;

/// Asks that wait for the next call. Each asker waits for its answer, so there are never more
/// than uploads in flight, times the objects of each.
const QUEUE: usize = 256;

type Asked = (ObjectSpec, oneshot::Sender<Result<UrlAnswer, Arc<ApiError>>>);

fn take<T>(items: &mut Vec<T>) -> Vec<T> {
    items.drain(..items.len().min(OBJECTS_AT_ONCE)).collect()
}

/// Asks for URLs. Clone one for each asker; the loop ends when all are dropped.
#[derive(Clone)]
pub(super) struct UrlDesk(mpsc::Sender<Asked>);

impl UrlDesk {
    /// A desk and the loop that serves it, to be polled beside the askers.
    pub(super) fn open(api: &Api, upload: &UploadId) -> (Self, impl Future<Output = ()>) {
        let (sender, mut asked) = mpsc::channel::<Asked>(QUEUE);
        let serve = async move {
            let mut batch = Vec::with_capacity(URLS_AT_ONCE);
            while asked.recv_many(&mut batch, URLS_AT_ONCE).await > 0 {
                let (objects, askers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
                match api.urls(upload, &UrlsRequest { objects }).await {
                    // Too few answers leave askers without one: they see the desk closed.
                    Ok(answers) => {
                        for (asker, answer) in askers.into_iter().zip(answers.objects) {
                            let _ = asker.send(Ok(answer));
                        }
                    }
                    Err(error) => {
                        let error = Arc::new(error);
                        for asker in askers {
                            let _ = asker.send(Err(Arc::clone(&error)));
                        }
                    }
                }
            }
        };
        (Self(sender), serve)
    }

    /// What to do about an object. `None`: the desk is closed.
    pub(super) async fn ask(&self, object: ObjectSpec) -> Option<Result<UrlAnswer, Arc<ApiError>>> {
        let (sender, answer) = oneshot::channel();
        self.0.send((object, sender)).await.ok()?;
        answer.await.ok()
    }
}

/// Reports what has been sent. Clone one for each reporter; the loop ends when all are dropped.
#[derive(Clone)]
pub(super) struct ReportDesk(mpsc::Sender<StoredRequest>);

impl ReportDesk {
    /// A desk and the loop that serves it. The loop answers the keys that the server did not find.
    pub(super) fn open(
        api: &Api,
        upload: &UploadId,
    ) -> (Self, impl Future<Output = Result<Vec<niks3_core::object_key::ObjectKey>, ApiError>>)
    {
        let (sender, mut reported) = mpsc::channel::<StoredRequest>(QUEUE);
        let serve = async move {
            let mut missing = Vec::new();
            let mut batch = Vec::with_capacity(REPORTS_AT_ONCE);
            while reported.recv_many(&mut batch, REPORTS_AT_ONCE).await > 0 {
                let (mut objects, mut no_listing) = (Vec::new(), Vec::new());
                for mut one in batch.drain(..) {
                    objects.append(&mut one.objects);
                    no_listing.append(&mut one.no_listing);
                }
                while !objects.is_empty() || !no_listing.is_empty() {
                    let report = StoredRequest {
                        objects: take(&mut objects),
                        no_listing: take(&mut no_listing),
                    };
                    missing.extend(api.stored(upload, &report).await?.missing);
                }
            }
            Ok(missing)
        };
        (Self(sender), serve)
    }

    /// Reports; waits only while many reports are on their way. A closed desk has failed, and
    /// whoever polls it knows why.
    pub(super) async fn report(&self, report: StoredRequest) {
        let _ = self.0.send(report).await;
    }
}
