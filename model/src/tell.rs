//! A path through the model, as a person reads it.

use stateright::Path;

use crate::{action::Action, model::Niks3, set::Slot, state::State};

impl Niks3 {
    /// One line for each step.
    #[must_use]
    pub fn tell(&self, path: Path<State, Action>) -> String {
        let steps = path.into_actions();
        let told = steps
            .iter()
            .enumerate()
            .map(|(n, action)| format!("{:>3}. {}\n", n + 1, self.tell_step(*action)));
        told.collect()
    }

    fn tell_step(&self, action: Action) -> String {
        let call = |slot: Slot| self.scenario.call(slot);
        match action {
            Action::PlanComplete(push) => format!("push {push}: all is there, committed at once"),
            Action::Plan(push, _) => format!("push {push}: plan"),
            Action::Urls(push, nar, _) => format!("push {push}: URLs for {} or another", call(nar)),
            Action::Look(push, nar) => format!("push {push}: {} is found in the bucket", call(nar)),
            Action::Report(push, nar) => format!("push {push}: {} is noted as stored", call(nar)),
            Action::Compose(push, path, _) => format!("push {push}: {} is taken", call(path)),
            Action::Realise(push, path) => {
                format!("push {push}: the realisation of {} is taken", call(path))
            }
            Action::Put(push, slot) => format!("push {push}: S3 takes {}", call(slot)),
            Action::Note(push, slot) => format!("push {push}: {} is noted as stored", call(slot)),
            Action::Commit(push) => format!("push {push}: commits"),
            Action::Fail(push) => format!("push {push}: fails"),
            Action::Release(push, None) => format!("push {push}: lets go of all"),
            Action::Release(push, Some(slot)) => format!("push {push}: lets go of {}", call(slot)),
            Action::Land(text) => {
                let text = &self.scenario.texts[usize::from(text)];
                let names: Vec<String> = text.names.iter().map(call).collect();
                format!("S3 takes {} naming [{}]", call(text.of), names.join(", "))
            }
            Action::WriteFence(slot) => format!("nobody can write {} any more", call(slot)),
            Action::Expire(slot) => format!("the closure {} expires", call(slot)),
            Action::Ask(slot) => format!("{} is found to be garbage", call(slot)),
            Action::Choose(slot) => format!("{} is found to be condemned", call(slot)),
            Action::Condemn(slot) => format!("the candidate {} is looked at", call(slot)),
            Action::Claim(number, slot) => format!("collector {number}: claims {}", call(slot)),
            Action::Delete(number, slot) => format!("collector {number}: deletes {}", call(slot)),
            Action::LoseDelete(number, slot) => {
                format!("collector {number}: sends a delete of {}, no answer", call(slot))
            }
            Action::LandDelete(slot) => format!("S3 deletes {}, late", call(slot)),
            Action::DeleteRow(number, slot) => {
                format!("collector {number}: deletes the row of {}", call(slot))
            }
            Action::Forget(number, slot) => format!("collector {number}: forgets {}", call(slot)),
            Action::ClaimFence(slot) => format!("the claim of {} is over", call(slot)),
            Action::Unclaim(slot) => format!("{} is given back", call(slot)),
        }
    }
}
