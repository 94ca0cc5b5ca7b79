//! Garbage collection.

use niks3_core::wire::{CollectRequest, CollectStatus, Collection};

use super::{Api, ApiError};

impl Api {
    /// Starts a run, or joins the one that is under way with the same parameters.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses: with 409 while another run is under way.
    pub async fn collect(&self, request: &CollectRequest) -> Result<Collection, ApiError> {
        self.json(&["gc"], request).await
    }

    /// The run that is under way, or the last one.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn collection(&self) -> Result<CollectStatus, ApiError> {
        self.get(&self.url(&["gc"])).await
    }
}
