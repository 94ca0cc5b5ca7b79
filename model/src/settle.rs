//! What is left when nothing happens any more but garbage collection.

use stateright::Model as _;

use crate::{
    action::Action,
    model::Niks3,
    set::Set,
    state::{Stage, State},
};

impl Niks3 {
    /// The state that a scenario begins with: earlier pushes are played without faults, from plan to
    /// release, and their URLs have expired.
    #[must_use]
    pub fn beginning(&self) -> State {
        let mut s = State::default();
        for (push, earlier) in self.scenario.pushes.iter().enumerate() {
            if !earlier.earlier {
                continue;
            }
            let mut actions = Vec::new();
            while !matches!(s.uploads[push].stage, Stage::Committed | Stage::Over) {
                actions.clear();
                self.actions(&s, &mut actions);
                let forward = actions.iter().find_map(|action| {
                    let own = match action {
                        Action::Plan(of, _)
                        | Action::Urls(of, ..)
                        | Action::Look(of, _)
                        | Action::Report(of, _)
                        | Action::Compose(of, ..)
                        | Action::Realise(of, _)
                        | Action::Put(of, _)
                        | Action::Note(of, _)
                        | Action::Commit(of) => *of == push,
                        Action::Land(text) => {
                            self.scenario.nar(self.scenario.texts[usize::from(*text)].of).is_some()
                        }
                        _ => false,
                    };
                    own.then(|| self.step(&s, *action)).flatten()
                });
                s = forward.expect("a push that nothing disturbs goes forward");
            }
            self.quieten(&mut s);
        }
        s
    }

    /// All times come, all pushes and collectors have died, and what ended pushes held is let go.
    fn quieten(&self, s: &mut State) {
        for push in 0..self.scenario.pushes.len() {
            let _ = self.fail(s, push);
            let _ = self.release(s, push, None);
            s.uploads[push].seen = Set::EMPTY;
            s.uploads[push].sent = Set::EMPTY;
        }
        for slot in self.scenario.slots() {
            let _ = self.write_fence(s, slot);
            let _ = self.claim_fence(s, slot);
            let _ = self.unclaim(s, slot);
            s.collectors.iter_mut().for_each(|collector| collector.forget(slot));
        }
    }

    /// Garbage collection runs until it finds nothing more to do. No request fails.
    #[must_use]
    pub fn settle(&self, before: &State) -> State {
        let mut s = before.clone();
        self.quieten(&mut s);
        loop {
            let at_first = (s.rows, s.condemned, s.candidates);
            for slot in s.candidates.iter() {
                let _ = self.ask(&mut s, slot);
                let _ = self.condemn(&mut s, slot);
            }
            for slot in s.condemned.iter() {
                let _ = self.choose(&mut s, slot);
                let _ = self.claim(&mut s, 0, slot);
                let _ = self.delete(&mut s, 0, slot);
                let _ = self.delete_rows(&mut s, 0, slot);
            }
            if (s.rows, s.condemned, s.candidates) == at_first {
                break;
            }
        }
        // Only mutations have requests that outlive their fences.
        for text in 1..self.scenario.texts.len() as u8 {
            let _ = self.land(&mut s, text);
        }
        for slot in self.scenario.slots() {
            let _ = self.land_delete(&mut s, slot);
        }
        s
    }

    /// The same after all closures have expired.
    #[must_use]
    pub fn settle_empty(&self, before: &State) -> State {
        let mut s = before.clone();
        for root in s.closures.iter() {
            let _ = self.expire(&mut s, root);
        }
        self.settle(&s)
    }
}
