//! STUB until merged.
use crate::upload::Uploads;
/// x
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// x
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}
/// x
/// # Errors
/// x
pub async fn check(_: &Uploads) -> Result<(), Distrust> {
    Ok(())
}
/// x
/// # Errors
/// x
pub async fn next_generation(_: &Uploads) -> Result<(), Distrust> {
    Ok(())
}
