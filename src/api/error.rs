//! Calls that failed, as a person reads them.

use std::time::Duration;

use niks3_core::verdict::Verdict;
use reqwest::StatusCode;
use url::Url;

use super::TokenError;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No HTTP client could be made.
    #[error("cannot set up an HTTP client")]
    Setup(#[source] reqwest::Error),
    /// No answer.
    #[error("cannot reach the niks3 server at {base}")]
    Unreachable {
        /// The server.
        base: Url,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// An answer of 400 or above, in the server's own words.
    #[error("the niks3 server at {base} answered {status}: {message}")]
    Refused {
        /// The server.
        base: Url,
        /// Its status.
        status: StatusCode,
        /// Its sentence.
        message: String,
        /// After how long it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// A token that the server does not take, and no other to be had.
    #[error("the niks3 server at {base} answered 401, and the token cannot be read again")]
    Token {
        /// The server.
        base: Url,
        /// Why not.
        #[source]
        source: TokenError,
    },
    /// An answer of 300 to 399.
    #[error("{base} answered {status}: the server is at another URL{}", at(.location))]
    Moved {
        /// What was asked.
        base: Url,
        /// Its status.
        status: StatusCode,
        /// Where it says that the server is, without a query.
        location: Option<String>,
    },
    /// A body that a proxy does not take, answered in its own words.
    #[error("a proxy before the niks3 server at {base} takes no body that large (413)")]
    ProxyLimit {
        /// What was asked.
        base: Url,
    },
    /// An answer that broke off or is larger than any of ours.
    #[error("the answer of the niks3 server at {base} broke off")]
    CutOff {
        /// The server.
        base: Url,
    },
    /// An answer that no niks3 server gives.
    #[error("{base} answered {status}, and not as a niks3 server does")]
    NotNiks3 {
        /// What was asked.
        base: Url,
        /// Its status.
        status: StatusCode,
    },
}

fn at(location: &Option<String>) -> String {
    location.as_ref().map(|location| format!(", {location}")).unwrap_or_default()
}

impl ApiError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Setup(_) => Some("are the system's CA certificates installed?".to_owned()),
            Self::Unreachable { .. } => {
                Some("is the URL the niks3 server's, and does the server run?".to_owned())
            }
            Self::Refused { status: StatusCode::UNAUTHORIZED, .. } => Some(
                "pass the server's token with --auth-token-path, --auth-token-script, \
                 NIKS3_AUTH_TOKEN_FILE or NIKS3_AUTH_TOKEN; if it has expired, fetch another"
                    .to_owned(),
            ),
            Self::Refused { status, .. } if status.is_server_error() => Some(
                "the server's log says more; the same command goes on where this ended".to_owned(),
            ),
            Self::Refused { status: StatusCode::FAILED_DEPENDENCY, .. } => Some(
                "S3 refuses the server itself: whoever runs it looks at its S3 settings, at the \
                 bucket's policy and at its log"
                    .to_owned(),
            ),
            Self::Refused { .. } => None,
            Self::Token { source, .. } => source.hint(),
            Self::Moved { .. } => Some("give that URL".to_owned()),
            Self::ProxyLimit { .. } => {
                Some("let it take 96 MiB (nginx: client_max_body_size 96m)".to_owned())
            }
            Self::CutOff { .. } => Some("try again".to_owned()),
            Self::NotNiks3 { .. } => Some(
                "give the URL of the niks3 server, not of the bucket that Nix reads from"
                    .to_owned(),
            ),
        }
    }

    /// Whether the token was not taken, be it by a proxy before the server.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Self::Refused { status, .. } | Self::NotNiks3 { status, .. } => {
                *status == StatusCode::UNAUTHORIZED
            }
            _ => false,
        }
    }

    /// Whether the server has nothing of that name, in its own words.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.refused_with() == Some(StatusCode::NOT_FOUND)
    }

    /// The server's status, where it said in its own words why it did not do what it was asked.
    #[must_use]
    pub fn refused_with(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether it is a matter of time: nobody answers, or who does is overloaded or restarts.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::CutOff { .. } => true,
            Self::Refused { status, .. } => Verdict::of(status.as_u16(), None) != Verdict::Final,
            Self::Setup(_)
            | Self::Token { .. }
            | Self::NotNiks3 { .. }
            | Self::Moved { .. }
            | Self::ProxyLimit { .. } => false,
        }
    }

    /// What the server asked for, within bounds.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
