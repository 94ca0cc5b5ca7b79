//! Answers that come page by page.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use serde::Deserialize;

use crate::{error::ApiError, state::AppState};

/// The query of a further page: the `next` of the page before it.
#[derive(Debug, Deserialize)]
pub struct After {
    after: Option<String>,
}

impl After {
    /// Reads it as what `next` was written from.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&str) -> Result<T, ApiError>,
    ) -> Result<Option<T>, ApiError> {
        self.after.as_deref().map(read).transpose()
    }
}

impl FromRequestParts<AppState> for After {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let query = Query::try_from_uri(&parts.uri);
        let wrong = |_| ApiError::bad_request("the query takes `after`, once");
        query.map(|Query(after)| after).map_err(wrong)
    }
}
