//! Why garbage collection failed, as a person reads it.

use reqwest::StatusCode;

use crate::api::ApiError;

/// Why a run did not come to its end before our eyes, or came to a bad one.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The server.
    #[error(transparent)]
    Api(ApiError),
    /// Another run is under way, and it does something else.
    #[error("cannot start a garbage collection while another one is under way")]
    Busy(#[source] ApiError),
    /// It ended with an error.
    #[error("garbage collection {number} failed: {error}")]
    Failed {
        /// Which one.
        number: u64,
        /// The server's words.
        error: String,
    },
    /// Taken up again and again.
    #[error("garbage collection {number} was lost for the {}th time: {why}", restarts + 1)]
    Lost {
        /// Which one.
        number: u64,
        /// How often it was started again.
        restarts: usize,
        /// What became of it.
        why: String,
    },
    /// It is not the last one any more.
    #[error(
        "garbage collection {ours} ended unseen: the server shows the later one {shown}, which does \
         something else"
    )]
    Unseen {
        /// Which one.
        ours: u64,
        /// What is shown in its place.
        shown: u64,
    },
    /// Ctrl-C, or the signal by which CI systems cancel a job.
    #[error("{}", interrupted(.number))]
    Interrupted {
        /// Which one, if it had begun.
        number: Option<u64>,
    },
}

fn interrupted(number: &Option<u64>) -> String {
    match number {
        Some(number) => format!("interrupted; garbage collection {number} goes on on the server"),
        None => "interrupted before the server said that it began".to_owned(),
    }
}

impl CollectError {
    /// Why it could not be started.
    pub(super) fn start(error: ApiError) -> Self {
        match error.refused_with() {
            Some(StatusCode::CONFLICT) => Self::Busy(error),
            _ => Self::Api(error),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Api(error) => return error.hint(),
            Self::Busy(_) => {
                "wait until it is done, or give the flags that it was started with to follow it"
            }
            Self::Failed { .. } => {
                "the server's log says more; another run goes on where this one stopped"
            }
            Self::Lost { .. } => {
                "the server's log says why; another run goes on where this one stopped"
            }
            Self::Unseen { .. } => {
                "the server's log says how it ended; another run does what it may have left"
            }
            Self::Interrupted { .. } => "the same command follows it again",
        };
        Some(hint.to_owned())
    }
}
