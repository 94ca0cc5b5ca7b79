//! What handlers may use, built once and handed down.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{auth::Token, upload::Uploads};

/// Plans that are read and carried out at once. One may take a hundred megabytes while its JSON
/// is read; the rest wait with their bodies unread.
const PLANS_AT_ONCE: usize = 4;

/// See the module.
#[derive(Clone)]
pub struct AppState {
    /// Database, bucket, keys.
    pub uploads: Arc<Uploads>,
    /// Lets callers push.
    pub api_token: Token,
    /// One permit for each plan under way.
    pub plans: Arc<Semaphore>,
}

impl AppState {
    /// For one server.
    #[must_use]
    pub fn new(uploads: Uploads, api_token: Token) -> Self {
        let plans = Arc::new(Semaphore::new(PLANS_AT_ONCE));
        Self { uploads: Arc::new(uploads), api_token, plans }
    }
}
