use serde::{Deserialize, Serialize};

/// What every answer of 400 and above has as its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A sentence for the person who reads it; no secrets, no inner causes.
    pub error: String,
}
