//! What a scenario must be able to do, or its invariants prove little.

use stateright::{Model as _, Property};

use crate::{
    action::Action,
    model::{Asked, Niks3},
    state::{Stage, State},
};

/// Something that a step may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A condemned object gets a reason to live again.
    Revived,
    /// A plan has to wait for an object that is being deleted.
    PlanWaits,
    /// An object is deleted, with its row.
    Deleted,
    /// A delete succeeds after one of the same key was not answered.
    Retried,
    /// A delete of which nobody knows takes effect, and the object is revived afterwards unstored.
    RevivedUnstored,
    /// A body arrives after its upload was given up.
    LatePut,
    /// A late body arrives while its row is condemned.
    LatePutOnGarbage,
    /// A push finds its path composed by another, of other contents, and commits.
    KeptOther,
    /// A push adopts a NAR that another has stored.
    Adopted,
    /// A NAR is stored in vain: its path was composed with another.
    Spare,
    /// A closure of which all is there is committed in one call.
    CommittedAtOnce,
    /// Two closures are there at once.
    TwoClosures,
    /// A collector that has lost its claim is still thinking of a key that is in the bucket again.
    PausedTooLong,
    /// A realisation is deleted before its narinfo.
    RealisationFirst,
    /// A push commits although the key of its realisation is another path's.
    RealisationKept,
    /// A realisation's key goes from one path to another.
    RealisationMoves,
}

/// One property for each.
#[must_use]
pub fn properties(events: &'static [Event]) -> Vec<Property<Niks3>> {
    // Conditions are plain functions, so each position of the list needs its own.
    const CONDITIONS: [fn(&Niks3, &State) -> bool; 8] = [
        |m, s| at(m, s, 0),
        |m, s| at(m, s, 1),
        |m, s| at(m, s, 2),
        |m, s| at(m, s, 3),
        |m, s| at(m, s, 4),
        |m, s| at(m, s, 5),
        |m, s| at(m, s, 6),
        |m, s| at(m, s, 7),
    ];
    assert!(events.len() <= CONDITIONS.len(), "room for more events");
    let named = events.iter().zip(CONDITIONS);
    named.map(|(event, condition)| Property::sometimes(event.name(), condition)).collect()
}

fn at(model: &Niks3, s: &State, position: usize) -> bool {
    let Asked::Reached(events) = model.asked else { return false };
    let mut actions = Vec::new();
    model.actions(s, &mut actions);
    actions.into_iter().any(|action| events[position].is(model, s, action))
}

impl Event {
    /// As a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Revived => "an object is revived",
            Self::PlanWaits => "a plan waits for what is being deleted",
            Self::Deleted => "an object is deleted",
            Self::Retried => "a delete is tried again",
            Self::RevivedUnstored => "what was deleted unseen is revived",
            Self::LatePut => "a body arrives after its upload was given up",
            Self::LatePutOnGarbage => "a body arrives when its row is condemned",
            Self::KeptOther => "a push keeps other contents",
            Self::Adopted => "a push adopts another's NAR",
            Self::Spare => "a NAR is stored in vain",
            Self::CommittedAtOnce => "a complete closure is committed at once",
            Self::TwoClosures => "two closures are there",
            Self::PausedTooLong => "a paused collector thinks of what is there again",
            Self::RealisationFirst => "a realisation goes before its narinfo",
            Self::RealisationKept => "a push leaves a realisation's key to another path",
            Self::RealisationMoves => "a realisation's key goes to another path",
        }
    }

    /// Whether `action` is that, taken in `s`.
    fn is(self, model: &Niks3, s: &State, action: Action) -> bool {
        let scenario = &model.scenario;
        if let (Self::PlanWaits, Action::Plan(push, _)) = (self, action) {
            let claimed = scenario.pushes[push].closure().meets(s.all_claimed());
            return claimed && s.uploads[push].stage == Stage::Unborn;
        }
        let Some(next) = model.step(s, action) else { return false };
        let revived = s.condemned - next.condemned;
        match (self, action) {
            (Self::Revived, Action::Plan(..)) => revived.meets(s.stored),
            (Self::RevivedUnstored, Action::Plan(..)) => {
                revived.iter().any(|slot| s.bucket[slot] == 0 && s.recorded[slot] != 0)
            }
            (Self::Deleted, Action::DeleteRow(_, slot)) => s.stored.has(slot),
            (Self::Retried, Action::Delete(collector, slot)) => {
                s.collectors[collector].unanswered.has(slot) && s.deletes.has(slot)
            }
            (Self::LatePut, Action::Land(text)) => {
                let nar = scenario.nar(scenario.texts[usize::from(text)].of);
                nar.is_some_and(|nar| !matches!(s.uploads[nar.push].stage, Stage::Open))
            }
            (Self::LatePutOnGarbage, Action::Land(text)) => {
                s.condemned.has(scenario.texts[usize::from(text)].of)
            }
            (Self::KeptOther, Action::Commit(push)) => {
                scenario.pushes[push].paths.iter().any(|planned| {
                    let named = s.references(scenario, planned.path);
                    planned.contents.is_some_and(|own| !named.meets(scenario.nars_of(own)))
                })
            }
            (Self::Adopted, Action::Plan(push, _) | Action::Urls(push, ..)) => {
                let new = next.uploads[push].holds - s.uploads[push].holds;
                new.iter().any(|slot| scenario.nar(slot).is_some_and(|nar| nar.push != push))
            }
            (Self::Spare, Action::Commit(push)) => {
                let spare = s.uploads[push].holds - s.reach(scenario, next.closures);
                spare.iter().any(|slot| scenario.nar(slot).is_some() && s.stored.has(slot))
            }
            (Self::CommittedAtOnce, Action::PlanComplete(_)) => true,
            (Self::TwoClosures, _) => next.closures.iter().count() == 2,
            (Self::PausedTooLong, _) => next.collectors.iter().enumerate().any(|(number, c)| {
                let lost = c.batch - next.claimed[number];
                lost.meets(next.stored - next.condemned)
            }),
            (Self::RealisationFirst, Action::DeleteRow(_, slot)) => s
                .owner(scenario, slot)
                .is_some_and(|owner| s.rows.has(owner) && s.stored.has(owner)),
            // It is that of an earlier push to begin with.
            (Self::RealisationMoves, Action::Realise(push, path)) => {
                !scenario.pushes[push].earlier
                    && scenario.pushes.iter().all(|push| !push.earlier || push.root() != path)
            }
            (Self::RealisationKept, Action::Commit(push)) => {
                let owner = scenario.realisation.and_then(|slot| s.owner(scenario, slot));
                owner.is_some_and(|owner| owner != scenario.pushes[push].root())
            }
            _ => false,
        }
    }
}
