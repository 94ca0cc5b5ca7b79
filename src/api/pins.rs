//! Pins and closures.

use niks3_core::{
    pin_name::PinName,
    store_path::{StorePath, StorePathHash},
    wire::{Closure, ClosuresResponse, Pin, PinRequest, PinsResponse},
};
use reqwest::Method;

use super::{Api, ApiError};

impl Api {
    /// Makes a pin, or moves it.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses: with 404 if no such closure was pushed.
    pub async fn pin(&self, name: &PinName, path: &StorePath) -> Result<Pin, ApiError> {
        let url = self.url(&["pins", &name.to_string()]);
        self.send(Method::PUT, &url, &PinRequest { path: path.clone() }).await
    }

    /// All pins, by name.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn pins(&self) -> Result<Vec<Pin>, ApiError> {
        let (mut pins, mut after) = (Vec::new(), None);
        loop {
            let url = self.page(&["pins"], after.as_ref());
            let PinsResponse { pins: page, next } = self.get(&url).await?;
            pins.extend(page);
            // Asked for the same page again we would get the same answer, for ever.
            if next.is_none() || next == after {
                return Ok(pins);
            }
            after = next;
        }
    }

    /// Removes a pin.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses: with 404 if there is none.
    pub async fn delete_pin(&self, name: &PinName) -> Result<(), ApiError> {
        self.delete(&self.url(&["pins", &name.to_string()])).await
    }

    /// All closures, by the hash part of their root.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn closures(&self) -> Result<Vec<Closure>, ApiError> {
        let (mut closures, mut after) = (Vec::new(), None);
        loop {
            let url = self.page(&["closures"], after);
            let ClosuresResponse { closures: page, next } = self.get(&url).await?;
            closures.extend(page);
            if next.is_none() || next == after {
                return Ok(closures);
            }
            after = next;
        }
    }

    /// One closure.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses: with 404 if it has no such closure.
    pub async fn closure(&self, root: &StorePathHash) -> Result<Closure, ApiError> {
        self.get(&self.url(&["closures", &root.to_string()])).await
    }

    /// Has a closure expire.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses: with 404 if it has no such closure, with 409 if
    /// it is pinned.
    pub async fn delete_closure(&self, root: &StorePathHash) -> Result<(), ApiError> {
        self.delete(&self.url(&["closures", &root.to_string()])).await
    }
}
