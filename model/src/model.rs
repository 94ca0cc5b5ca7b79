//! The protocol as stateright explores it.

use stateright::{Model, Property};

use crate::{
    action::Action,
    invariants,
    mutation::{Mutation, Mutations},
    reached,
    scenario::Scenario,
    state::{Stage, State},
};

/// What is asked of all states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// That no state breaks an invariant.
    Invariants,
    /// That some step does each of the things that the scenario is about.
    Reached(&'static [reached::Event]),
}

/// A scenario, played by the protocol or by a mutation of it.
#[derive(Clone, Debug)]
pub struct Niks3 {
    /// What there is.
    pub scenario: Scenario,
    /// Which rules are left out.
    pub mutations: Mutations,
    /// What is asked.
    pub asked: Asked,
}

impl Niks3 {
    /// The protocol as it is, asked for its invariants.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        Self { scenario, mutations: Mutations::default(), asked: Asked::Invariants }
    }

    /// The same without some of its rules.
    #[must_use]
    pub fn without(scenario: Scenario, rules: &[Mutation]) -> Self {
        Self { mutations: Mutations::of(rules), ..Self::new(scenario) }
    }

    pub(crate) fn has(&self, mutation: Mutation) -> bool {
        self.mutations.has(mutation)
    }

    /// The state after a step; `None` if it cannot be taken, which includes transactions that roll back.
    #[must_use]
    pub fn step(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        let s = &mut state;
        match action {
            Action::PlanComplete(push) => self.plan_complete(s, push),
            Action::Plan(push, last) => self.plan(s, push, last),
            Action::Urls(push, nar, last) => self.urls(s, push, nar, last),
            Action::Look(push, nar) => self.look(s, push, nar),
            Action::Report(push, nar) => self.report(s, push, nar),
            Action::Compose(push, path, last) => self.compose(s, push, path, last),
            Action::Realise(push, path) => self.realise(s, push, path),
            Action::Put(push, slot) => self.put(s, push, slot),
            Action::Note(push, slot) => self.note(s, push, slot),
            Action::Commit(push) => self.commit(s, push),
            Action::Fail(push) => self.fail(s, push),
            Action::Release(push, one) => self.release(s, push, one),
            Action::Land(text) => self.land(s, text),
            Action::WriteFence(slot) => self.write_fence(s, slot),
            Action::Expire(slot) => self.expire(s, slot),
            Action::Ask(slot) => self.ask(s, slot),
            Action::Choose(slot) => self.choose(s, slot),
            Action::Condemn(slot) => self.condemn(s, slot),
            Action::Claim(collector, slot) => self.claim(s, collector, slot),
            Action::Delete(collector, slot) => self.delete(s, collector, slot),
            Action::LoseDelete(collector, slot) => self.lose_delete(s, collector, slot),
            Action::LandDelete(slot) => self.land_delete(s, slot),
            Action::DeleteRow(collector, slot) => self.delete_rows(s, collector, slot),
            Action::Forget(collector, slot) => self.forget(s, collector, slot),
            Action::ClaimFence(slot) => self.claim_fence(s, slot),
            Action::Unclaim(slot) => self.unclaim(s, slot),
        }?;
        (state != *before).then_some(state)
    }

    fn push_actions(&self, s: &State, actions: &mut Vec<Action>) {
        for (push, planned) in self.scenario.pushes.iter().enumerate() {
            let upload = &s.uploads[push];
            let ended = matches!(upload.stage, Stage::Committed | Stage::Failed);
            // Which of two stored NARs was first makes no difference when there is one.
            let orders: &[bool] =
                if s.stored.meets(self.second_nars()) { &[false, true] } else { &[false] };
            if !ended {
                actions.push(Action::PlanComplete(push));
                actions.extend(orders.iter().map(|last| Action::Plan(push, *last)));
            }
            if self.is_planned(s, push) {
                for nar in self.nar_slots().filter(|nar| self.is_nar_of(push, *nar)) {
                    actions.extend(orders.iter().map(|last| Action::Urls(push, nar, *last)));
                    actions.push(Action::Look(push, nar));
                }
                for path in planned.closure().iter() {
                    actions.extend(orders.iter().map(|last| Action::Compose(push, path, *last)));
                    actions.extend(self.scenario.realisation.map(|_| Action::Realise(push, path)));
                    actions.push(Action::Put(push, path));
                }
                actions.extend(self.scenario.realisation.map(|slot| Action::Put(push, slot)));
                actions.push(Action::Commit(push));
            }
            if upload.stage == Stage::Open {
                actions.push(Action::Fail(push));
            }
            actions.extend(upload.seen.iter().map(|nar| Action::Report(push, nar)));
            actions.extend(upload.sent.iter().map(|slot| Action::Note(push, slot)));
            if ended && self.scenario.piecemeal {
                actions.extend(upload.holds.iter().map(|slot| Action::Release(push, Some(slot))));
            } else if ended {
                actions.push(Action::Release(push, None));
            }
        }
    }

    pub(crate) fn collector_actions(&self, s: &State, actions: &mut Vec<Action>) {
        actions.extend(s.candidates.iter().map(Action::Ask));
        actions.extend(s.candidates.iter().map(Action::Condemn));
        actions.extend(s.condemned.iter().map(Action::Choose));
        for collector in 0..self.scenario.collectors {
            let wanted = (s.condemned | s.chosen) - s.all_claimed();
            actions.extend(wanted.iter().map(|slot| Action::Claim(collector, slot)));
            for slot in s.collectors[collector].batch.iter() {
                actions.push(Action::Delete(collector, slot));
                actions.push(Action::LoseDelete(collector, slot));
                actions.push(Action::DeleteRow(collector, slot));
                actions.push(Action::Forget(collector, slot));
            }
        }
        actions.extend(s.all_claimed().iter().map(Action::Unclaim));
    }

    fn nar_slots(&self) -> impl Iterator<Item = usize> + use<'_> {
        self.scenario.slots().filter(|slot| self.scenario.nar(*slot).is_some())
    }

    fn is_nar_of(&self, push: usize, slot: usize) -> bool {
        self.scenario.nar(slot).is_some_and(|nar| nar.push == push)
    }

    /// NARs of contents that another NAR has too.
    fn second_nars(&self) -> crate::set::Set {
        self.nar_slots()
            .filter(|slot| {
                let nar = self.scenario.nar(*slot);
                nar.is_some_and(|nar| {
                    self.scenario.nars_of(nar.contents).iter().next() != Some(*slot)
                })
            })
            .collect()
    }
}

impl Model for Niks3 {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.beginning()]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        self.push_actions(s, actions);
        self.collector_actions(s, actions);
        actions.extend(s.closures.iter().map(Action::Expire));
        actions.extend(s.writable.iter().map(Action::WriteFence));
        actions.extend(s.deletable.iter().map(Action::ClaimFence));
        actions.extend(s.deletes.iter().map(Action::LandDelete));
        let texts = (1..self.scenario.texts.len() as u8).filter(|text| s.may_land(*text));
        actions.extend(texts.map(Action::Land));
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        self.step(s, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        match self.asked {
            Asked::Invariants => invariants::all(),
            Asked::Reached(events) => reached::properties(events),
        }
    }
}
