//! What must be true of every state.

use stateright::Property;

use crate::{model::Niks3, set::Set, state::State};

/// A closure that is committed and has not expired misses nothing.
pub const COMPLETE: &str = "a committed closure is complete";
/// What a reader finds under a narinfo's key can be realised.
pub const REALISABLE: &str = "a readable narinfo can be realised";
/// What the database says is stored is in the bucket.
pub const STORED: &str = "what is stored is in the bucket";
/// The table of condemned objects is right: DESIGN's definition, first half.
pub const SPARED: &str = "what is needed is not condemned";
/// The table of condemned objects is right: DESIGN's definition, second half.
pub const REMEMBERED: &str = "garbage is condemned or waits behind a candidate";
/// Garbage goes, from every state.
pub const COLLECTED: &str = "garbage is deleted in the end";

/// All of them.
#[must_use]
pub fn all() -> Vec<Property<Niks3>> {
    vec![
        Property::always(COMPLETE, complete),
        Property::always(REALISABLE, realisable),
        Property::always(STORED, stored),
        Property::always(SPARED, spared),
        Property::always(REMEMBERED, remembered),
        Property::always(COLLECTED, collected),
    ]
}

/// All that closures reach by recorded references has a row, is stored and is in the bucket. A realisation
/// is left out: it may be lost with a delete that was not answered before its narinfo was revived, and the
/// next push that has it sends it again.
fn complete(model: &Niks3, s: &State) -> bool {
    let reached = s.reach(&model.scenario, s.closures);
    reached.iter().filter(|slot| model.scenario.realisation != Some(*slot)).all(|slot| {
        let expected = s.expected(&model.scenario, slot);
        s.rows.has(slot) && s.stored.has(slot) && expected != 0 && s.bucket[slot] == expected
    })
}

/// All that a text in the bucket names is in the bucket. Each of those has the same property, so the
/// whole closure is.
fn realisable(model: &Niks3, s: &State) -> bool {
    model.scenario.slots().all(|slot| {
        let text = &model.scenario.texts[usize::from(s.bucket[slot])];
        text.names.iter().all(|named| s.bucket[named] != 0)
    })
}

fn stored(model: &Niks3, s: &State) -> bool {
    (s.stored - s.all_claimed())
        .iter()
        .all(|slot| s.bucket[slot] != 0 && s.bucket[slot] == s.expected(&model.scenario, slot))
}

fn needed(model: &Niks3, s: &State) -> Set {
    s.reach(&model.scenario, s.closures | s.held())
}

fn spared(model: &Niks3, s: &State) -> bool {
    !needed(model, s).meets(s.condemned)
}

fn remembered(model: &Niks3, s: &State) -> bool {
    let behind = s.reach(&model.scenario, s.candidates);
    (s.rows - needed(model, s) - s.condemned).within(behind)
}

/// "Eventually" of stateright is only right for paths without cycles, and there are cycles here. So it is
/// asked from every state, not from the last ones only: if all pushes and collectors died now, and
/// garbage collection ran without faults, would exactly what closures need be left? And after all
/// closures have expired too, nothing?
fn collected(model: &Niks3, s: &State) -> bool {
    let after = model.settle(s);
    let kept = after.reach(&model.scenario, after.closures);
    let exact = after.rows == kept && in_bucket(model, &after).within(kept);
    if !exact || !complete(model, &after) {
        return false;
    }
    let after = model.settle_empty(s);
    after.rows.is_empty() && in_bucket(model, &after).is_empty()
}

fn in_bucket(model: &Niks3, s: &State) -> Set {
    model.scenario.slots().filter(|slot| s.bucket[*slot] != 0).collect()
}
