//! Condemning: from what lost a holder on, as far as the garbage goes and no further.

use super::{
    CollectError,
    run::Run,
    turn::{Decision, Turns},
};
use crate::store::{self, Condemned, TOP, Tx};

/// Asks of every candidate whether it is garbage. What garbage refers to is asked next, so the cost
/// follows the garbage. Highest ids first: mostly all referrers of an object have been asked before it,
/// and it is asked once. What pushes leave meanwhile gets a second pass, and no more: they may leave it
/// as fast as we ask.
pub(super) async fn condemn(run: &mut Run<'_>) -> Result<(), CollectError> {
    let mut turns = Turns::new(&run.cx.store);
    let mut below = TOP;
    let mut passes = 0;
    loop {
        run.keep().await?;
        let batch = turns.take(&Candidates { below }).await?;
        match batch {
            Some(batch) => {
                run.progress.objects_marked_for_deletion += batch.objects;
                run.progress.bytes_marked += batch.bytes;
                below = batch.below;
            }
            // Below there is nothing; pushes that ended meanwhile have left candidates above.
            None if below < TOP && passes == 0 => (below, passes) = (TOP, 1),
            None => return Ok(()),
        }
    }
}

/// The candidates below one.
pub(super) struct Candidates {
    pub(super) below: i64,
}

impl Decision for Candidates {
    type Answer = Option<Condemned>;

    async fn decide(&self, tx: &Tx<'_>, limit: usize) -> Result<Self::Answer, CollectError> {
        Ok(store::condemn(tx, self.below, limit).await?)
    }
}
