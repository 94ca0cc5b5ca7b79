//! A run of garbage collection, which the server does: started, followed, and taken up again when
//! the server that worked on it is gone.

mod error;
mod show;
mod sight;
pub mod statistics;

use std::time::Duration;

use niks3_core::wire::{CollectRequest, CollectStatus, Collection};
use tokio::time::{sleep, timeout};

use self::sight::{Sight, look};
use crate::api::Api;

pub use error::CollectError;
pub use show::Show;

/// How often a run that is lost is taken up again.
const RESTARTS: usize = 3;

/// How a run is followed.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two looks.
    pub pause: Duration,
    /// For so long a look may fail.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { pause: Duration::from_secs(1), patience: Duration::from_secs(60) }
    }
}

/// Starts a run or joins it, and follows it to its end. That end may be a failure: see
/// [`CollectStatus`].
///
/// # Errors
/// When the server refuses it, or it is lost from sight. The run may well go on then.
pub async fn collect(
    api: &Api,
    request: &CollectRequest,
    pace: Pace,
    show: &mut Show,
) -> Result<CollectStatus, CollectError> {
    let mut ours = start(api, request).await?;
    let mut restarts = 0;
    loop {
        show.started(&ours);
        let why = match follow(api, &mut ours, pace, show).await? {
            Followed::Ended(status) => return Ok(*status),
            Followed::Lost(why) => why,
        };
        let number = ours.number;
        if restarts == RESTARTS {
            return Err(CollectError::Lost { number, restarts, why });
        }
        show.warn(&format!("garbage collection {number} was lost: {why}; starting again"));
        sleep(pace.pause).await;
        // What the lost one did is done: the next one goes on where it stopped. If it is under way
        // after all, we join it.
        ours = start(api, request).await?;
        restarts += 1;
    }
}

async fn start(api: &Api, request: &CollectRequest) -> Result<Collection, CollectError> {
    api.collect(request).await.map_err(CollectError::start)
}

/// What became of a run that was followed.
enum Followed {
    /// It ended, well or not.
    Ended(Box<CollectStatus>),
    /// Nobody works on it, or nobody says so.
    Lost(String),
}

/// Looks at our run until it has ended or is lost.
async fn follow(
    api: &Api,
    ours: &mut Collection,
    pace: Pace,
    show: &mut Show,
) -> Result<Followed, CollectError> {
    loop {
        let status = match timeout(pace.patience, api.collection()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) if !error.may_pass() => return Err(CollectError::Api(error)),
            Ok(Err(_)) | Err(_) => return Ok(Followed::Lost("the server does not answer".into())),
        };
        match look(ours, status.collection.as_ref()) {
            Sight::Running(run) => {
                *ours = run;
                show.progress(ours);
            }
            Sight::Ended => return Ok(Followed::Ended(Box::new(status))),
            Sight::Lost(why) => return Ok(Followed::Lost(why)),
            Sight::Replaced(number) => {
                return Err(CollectError::Unseen { ours: ours.number, shown: number });
            }
        }
        sleep(pace.pause).await;
    }
}

#[cfg(test)]
mod tests;
