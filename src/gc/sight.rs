//! What the server shows, and what it says about the run that we follow.

use niks3_core::wire::{CollectState, Collection};

/// How our run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// It is under way. This is it, or one that does the same in its place.
    Running(Collection),
    /// It has ended, well or not.
    Ended,
    /// Nobody works on it. In words why.
    Lost(String),
    /// Ours is not the last one any more, and the last one, of this number, does something else.
    Replaced(u64),
}

/// Judges what is `shown` while we follow `ours`.
pub(super) fn look(ours: &Collection, shown: Option<&Collection>) -> Sight {
    let Some(shown) = shown.filter(|shown| shown.number >= ours.number) else {
        // As after a restore of its database.
        return Sight::Lost("the server does not know of it".to_owned());
    };
    // Another one may have been started when ours had just been lost or had ended. If it does what
    // we asked for, it is as good as ours.
    if shown.number > ours.number && shown.parameters != ours.parameters {
        return Sight::Replaced(shown.number);
    }
    match shown.state {
        CollectState::Running => Sight::Running(shown.clone()),
        CollectState::Finished | CollectState::Failed => Sight::Ended,
        CollectState::Interrupted => Sight::Lost("the server that worked on it is gone".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use niks3_core::wire::{CollectProgress, CollectRequest};

    use super::*;

    fn run(number: u64, older_than: u64, state: CollectState) -> Collection {
        Collection {
            number,
            parameters: CollectRequest {
                older_than,
                failed_uploads_older_than: 0,
                force: false,
                dry_run: false,
            },
            started_at: 1,
            finished_at: None,
            state,
            error: None,
            progress: CollectProgress::default(),
        }
    }

    #[test]
    fn only_our_run_or_one_that_does_the_same_counts() {
        use CollectState::{Failed, Finished, Interrupted, Running};
        let ours = run(5, 10, Running);
        let sight = |number, older_than, state| look(&ours, Some(&run(number, older_than, state)));
        for number in [5, 6] {
            assert_eq!(sight(number, 10, Running), Sight::Running(run(number, 10, Running)));
            assert_eq!(sight(number, 10, Finished), Sight::Ended);
            assert_eq!(sight(number, 10, Failed), Sight::Ended);
            assert!(matches!(sight(number, 10, Interrupted), Sight::Lost(_)));
        }
        for state in [Running, Interrupted, Finished, Failed] {
            assert_eq!(sight(6, 20, state), Sight::Replaced(6));
            assert!(matches!(sight(4, 10, state), Sight::Lost(_)));
        }
        assert!(matches!(look(&ours, None), Sight::Lost(_)));
    }
}
