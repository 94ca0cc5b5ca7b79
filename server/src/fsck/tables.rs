//! What the tables alone show.

use super::{Finding, FsckError, Kind, Report};
use crate::store::{self, Check, Store};

const CHECKS: [(Check, Kind); 8] = [
    (Check::Needed, Kind::NeededButCondemned),
    (Check::Forgotten, Kind::Forgotten),
    (Check::References, Kind::DanglingReference),
    (Check::Holders, Kind::DanglingHolder),
    (Check::Narinfos, Kind::DanglingNarinfo),
    (Check::NotComposed, Kind::NotComposed),
    (Check::Nars, Kind::NarMissing),
    (Check::Unpublished, Kind::ReferenceNotPublished),
];

/// Looks at all tables, in one snapshot.
pub(super) async fn check(store: &Store, report: &mut Report) -> Result<(), FsckError> {
    let mut connection = store.connection().await?;
    // Not committed: even the temporary tables are gone.
    let tx = connection.begin().await?;
    report.objects = store::begin_checks(&tx).await?;
    for (check, kind) in CHECKS {
        // One more than there is room for, to know that there is more.
        let wrong = store::check(&tx, check, report.room() + 1).await?;
        report.add(wrong.into_iter().map(|wrong| Finding {
            kind,
            key: wrong.key,
            id: Some(wrong.id),
            other: wrong.other,
        }));
    }
    Ok(())
}
