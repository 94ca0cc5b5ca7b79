//! What handlers may use, built once and handed down.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{auth::Token, http::health::LastLook, upload::Uploads};

/// Large plans that are read and carried out at once. One may take a hundred megabytes while its JSON
/// is read; the rest wait with their bodies unread.
const PLANS_AT_ONCE: usize = 4;

/// See the module.
#[derive(Clone)]
pub struct AppState {
    /// Database, bucket, keys.
    pub uploads: Arc<Uploads>,
    /// Lets callers push.
    pub api_token: Token,
    /// One permit for each large plan under way.
    pub plans: Arc<Semaphore>,
    /// The last look at database and bucket.
    pub health: Arc<LastLook>,
}

impl AppState {
    /// For one server.
    #[must_use]
    pub fn new(uploads: Uploads, api_token: Token) -> Self {
        let plans = Arc::new(Semaphore::new(PLANS_AT_ONCE));
        let health = Arc::default();
        Self { uploads: Arc::new(uploads), api_token, plans, health }
    }
}
