//! A pin's file in the bucket.

use std::time::{Duration, Instant};

use niks3_core::{object_key::ObjectKey, verdict::Verdict};

use super::{PinError, retry};
use crate::{
    s3::S3Error,
    store::{self, TakenPin},
    upload::Uploads,
};

/// Between the tries of one call.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// What has become of a file that was to be written or deleted.
pub(super) enum Placed {
    /// It is as it shall be.
    There,
    /// It is not, or not surely. The next look for pins to complete takes it up.
    Not(S3Error),
    /// It took so long that somebody else has taken the pin.
    Overtaken,
}

/// Has the bucket say what a pin that was taken shall say, and notes it.
///
/// All tries are to the same end, so one that was not answered does no harm when it arrives after one
/// that was. It would if the file had been changed to something else by then:
///   1. a PUT of one path is sent, and its answer is lost
///   2. the pin is moved, and the other path is written
///   3. the first PUT arrives, and the file names what may have expired
///
/// So nobody else takes the pin until none can arrive any more.
pub(super) async fn place(cx: &Uploads, taken: &TakenPin) -> Result<Placed, PinError> {
    let (sent, under_way) = send(cx, taken).await;
    let noted = retry(|| async {
        let mut connection = cx.store.connection().await?;
        let tx = connection.begin().await?;
        let mut ours = true;
        match &sent {
            Ok(()) => {
                tx.enter_gate().await?;
                ours = store::note_pin_file(&tx, taken, under_way).await?;
            }
            Err(_) if under_way => {}
            Err(_) => store::note_pin_failure(&tx, taken).await?,
        }
        tx.commit().await?;
        Ok(ours)
    });
    let ours = noted.await?;
    match sent {
        Err(error) => Ok(Placed::Not(error)),
        Ok(()) if ours => Ok(Placed::There),
        Ok(()) => Ok(Placed::Overtaken),
    }
}

/// The last answer, and whether a request of ours may still be under way.
async fn send(cx: &Uploads, taken: &TakenPin) -> (Result<(), S3Error>, bool) {
    let key = ObjectKey::Pin(taken.name.clone());
    let latest = Instant::now() + cx.bucket.times.put_patience();
    let mut pauses = PAUSES.into_iter();
    let mut under_way = false;
    loop {
        let sent = match &taken.target {
            Some(target) => {
                // A line, for people and for `$(curl …)`.
                let body = format!("{}\n", target.path.absolute(&cx.store_dir)).into_bytes();
                cx.bucket.put_once(&key, body, taken.signed_at).await
            }
            None => cx.bucket.delete_once(&key, taken.signed_at).await,
        };
        let Err(error) = sent else { return (Ok(()), under_way) };
        under_way |= !error.is_over();
        let pause = pauses.next().filter(|pause| Instant::now() + *pause < latest);
        match pause {
            Some(pause) if error.verdict() != Verdict::Final => tokio::time::sleep(pause).await,
            _ => return (Err(error), under_way),
        }
    }
}
