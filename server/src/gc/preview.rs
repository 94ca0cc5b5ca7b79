//! `--dry-run`.

use niks3_core::wire::CollectPhase;

use super::{CollectError, run::Run};
use crate::store;

/// Finds out what a run would do, and does none of it.
pub(super) async fn preview(run: &mut Run<'_>) -> Result<(), CollectError> {
    let mut connection = run.cx.store.connection().await?;
    let tx = connection.begin().await?;
    let (silent, before) = (run.silent(), run.pushed_before());
    run.progress = store::preview(&tx, silent, before, (run.grace(), run.force())).await?;
    run.progress.phase = CollectPhase::Delete;
    // Not committed: even the temporary tables are gone.
    Ok(())
}
