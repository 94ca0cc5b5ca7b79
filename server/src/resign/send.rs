//! Sends what was signed anew.

use std::time::Instant;

use futures_util::{StreamExt as _, stream};
use tracing::warn;

use super::{CHUNK, ResignError};
use crate::{
    store::{self, Token},
    upload::{self, Uploads},
};

/// Texts that are sent at once; all requests together stay within the bucket's own bound.
const PUTS_AT_ONCE: usize = 64;

/// What became of one round.
#[derive(Debug, Default)]
pub(super) struct Sending {
    pub(super) sent: u64,
    /// S3 did not take these, or they were too late for their URLs: they are in the list still.
    pub(super) failed: usize,
}

/// Sends all that is in the list, each once.
pub(super) async fn round(cx: &Uploads) -> Result<Sending, ResignError> {
    let (mut sending, mut after) = (Sending::default(), 0);
    let times = cx.bucket.times;
    let writable = times.writable(times.own_url(), 0);
    loop {
        let (texts, last) = upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            tx.enter_gate().await?;
            let taken = store::take_resigned(&tx, after, CHUNK, writable).await?;
            tx.commit().await?;
            Ok(taken)
        })
        .await?;
        let Some(last) = last else { return Ok(sending) };
        after = last;
        let until = Instant::now() + times.latest_put();
        let taken = texts.len();
        let results: Vec<_> = stream::iter(texts)
            .map(|text| async move {
                if Instant::now() >= until {
                    return None;
                }
                let body = cx.bucket.encode(&text.key, &text.text);
                let put = cx.bucket.put(&text.key, body, text.fenced_at).await;
                Some(put.map(|()| text.token))
            })
            .buffer_unordered(PUTS_AT_ONCE)
            .collect()
            .await;
        let (mut sent, mut error): (Vec<Token>, _) = (Vec::with_capacity(taken), None);
        for result in results.into_iter().flatten() {
            match result {
                Ok(token) => sent.push(token),
                Err(why) => error = Some(why),
            }
        }
        if let Some(error) = error {
            if sent.is_empty() {
                return Err(error.into());
            }
            warn!(error = &error as &dyn std::error::Error, "some texts were not taken");
        }
        // Rows are locked in one order everywhere.
        sent.sort_unstable();
        upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            tx.enter_gate().await?;
            store::mark_resigned(&tx, &sent).await?;
            Ok(tx.commit().await?)
        })
        .await?;
        sending.sent += sent.len() as u64;
        sending.failed += taken - sent.len();
    }
}
