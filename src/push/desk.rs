//! Many askers, few calls: what is asked while calls are under way goes into the next one.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt as _, stream};
use niks3_core::{
    object_key::ObjectKey,
    store_path::StorePathHash,
    wire::{ObjectSpec, StoredObject, StoredRequest, UploadId, UrlAnswer, UrlsRequest},
};
use tokio::sync::{mpsc, oneshot};

use crate::api::{Api, ApiError};

/// Objects in one call for URLs. The server takes more; URLs are better young when they are used.
const URLS_AT_ONCE: usize = 100;

/// Reports in one call. The server looks for each NAR.
const REPORTS_AT_ONCE: usize = 200;

/// Calls of one desk under way. A second one, since opening a multipart upload or looking for
/// objects waits for S3; the server's database takes the calls of one upload one by one.
const CALLS_AT_ONCE: usize = 2;

/// Asks that wait for the next call. Each asker waits for its answer, so there are never more than
/// work in progress, times the objects of each.
const QUEUE: usize = 256;

struct Asked<I, A> {
    item: I,
    answer: oneshot::Sender<Result<A, Arc<ApiError>>>,
}

/// Where to ask. The loop that serves it ends when it is dropped.
pub(super) struct Desk<I, A>(mpsc::Sender<Asked<I, A>>);

/// Asks for URLs.
pub(super) type UrlDesk = Desk<ObjectSpec, UrlAnswer>;

/// Reports what was sent, and learns whether the server found it.
pub(super) type ReportDesk = Desk<Report, bool>;

/// Something to report.
pub(super) enum Report {
    /// S3 has taken it.
    Sent(StoredObject),
    /// There can be no listing of that path.
    NoListing(StorePathHash),
}

impl<I, A> Desk<I, A> {
    /// An answer. `None`: the desk is closed.
    pub(super) async fn ask(&self, item: I) -> Option<Result<A, Arc<ApiError>>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Asked { item, answer }).await.ok()?;
        answered.await.ok()
    }
}

/// A desk, and the loop that serves it with `call`, to be polled beside the askers.
fn open<I, A, Called>(
    at_once: usize,
    call: impl Fn(Vec<I>) -> Called,
) -> (Desk<I, A>, impl Future<Output = ()>)
where
    Called: Future<Output = Result<Vec<A>, ApiError>>,
{
    let (sender, asked) = mpsc::channel::<Asked<I, A>>(QUEUE);
    let batches = stream::unfold(asked, move |mut asked| async move {
        let mut batch = Vec::with_capacity(at_once);
        (asked.recv_many(&mut batch, at_once).await > 0).then_some((batch, asked))
    });
    let serve = async move {
        let call = &call;
        let answer = |batch: Vec<Asked<I, A>>| async move {
            let split = |asked: Asked<I, A>| (asked.item, asked.answer);
            let (items, askers): (Vec<_>, Vec<_>) = batch.into_iter().map(split).unzip();
            match call(items).await {
                // Too few answers leave askers without one: they see the desk closed.
                Ok(answers) => {
                    for (asker, answer) in askers.into_iter().zip(answers) {
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
        };
        batches.for_each_concurrent(CALLS_AT_ONCE, answer).await;
    };
    (Desk(sender), serve)
}

/// A desk for URLs, and the loop that serves it.
pub(super) fn urls(api: &Api, upload: &UploadId) -> (UrlDesk, impl Future<Output = ()>) {
    open(URLS_AT_ONCE, move |objects| async move {
        Ok(api.urls(upload, &UrlsRequest { objects }).await?.objects)
    })
}

/// A desk for reports, and the loop that serves it.
pub(super) fn reports(api: &Api, upload: &UploadId) -> (ReportDesk, impl Future<Output = ()>) {
    open(REPORTS_AT_ONCE, move |reports: Vec<Report>| async move {
        let keys: Vec<Option<ObjectKey>> = reports.iter().map(Report::key).collect();
        let mut request = StoredRequest::default();
        for report in reports {
            match report {
                Report::Sent(object) => request.objects.push(object),
                Report::NoListing(path) => request.no_listing.push(path),
            }
        }
        let missing = api.stored(upload, &request).await?.missing;
        let missing: HashSet<ObjectKey> = missing.into_iter().collect();
        let found = |key: Option<ObjectKey>| key.is_none_or(|key| !missing.contains(&key));
        Ok(keys.into_iter().map(found).collect())
    })
}

impl Report {
    fn key(&self) -> Option<ObjectKey> {
        match self {
            Self::Sent(object) => Some(object.key.clone()),
            Self::NoListing(_) => None,
        }
    }
}
