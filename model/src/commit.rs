//! The steps of a commit: compose, publish, note, and the closure.

use crate::{
    model::Niks3,
    mutation::Mutation,
    scenario::Planned,
    set::{Set, Slot},
    state::{Stage, State},
};

impl Niks3 {
    /// `advance`, of one path: composed unless it is, and taken to be sent.
    pub(crate) fn compose(&self, s: &mut State, push: usize, path: Slot, last: bool) -> Option<()> {
        if !self.is_planned(s, push) || s.stored.has(path) {
            return None;
        }
        let planned = self.planned(push, path)?;
        if s.recorded[path] == 0 || self.has(Mutation::ComposeTwice) {
            let early = self.has(Mutation::PublishEarly);
            if s.writable.has(path) || !early && !planned.references.within(s.stored) {
                return None;
            }
            let mut names = planned.references;
            if let Some(contents) = planned.contents {
                let nar = self.stored_nar(s, contents, last)?;
                s.condemned.remove(nar);
                names.insert(nar);
            }
            s.recorded[path] = self.scenario.text(path, names);
        }
        self.allow(s, path, s.recorded[path]);
        Some(())
    }

    fn planned(&self, push: usize, path: Slot) -> Option<&Planned> {
        self.scenario.pushes[push].paths.iter().find(|planned| planned.path == path)
    }

    /// The realisation of a published path. A key that belongs to another path is that path's as long
    /// as its row is there.
    pub(crate) fn realise(&self, s: &mut State, push: usize, path: Slot) -> Option<()> {
        let slot = self.scenario.realisation?;
        if !self.is_planned(s, push) || !self.planned(push, path)?.realised || !s.stored.has(path) {
            return None;
        }
        let text = self.scenario.text(slot, Set::of(path));
        let take = !s.rows.has(slot) || self.has(Mutation::TakeRealisation);
        if take && s.recorded[slot] != text {
            s.rows.insert(slot);
            s.stored.remove(slot);
            s.condemned.remove(slot);
            s.recorded[slot] = text;
        }
        if s.recorded[slot] != text || s.stored.has(slot) {
            return None;
        }
        self.allow(s, slot, text);
        Some(())
    }

    /// Whether nothing is left to do for the realisations of a push: they are stored, or their key is
    /// that of another path which is not garbage.
    pub(crate) fn realised(&self, s: &State, push: usize) -> bool {
        let Some(slot) = self.scenario.realisation else { return true };
        let wanted = self.scenario.pushes[push].paths.iter().filter(|planned| planned.realised);
        wanted.map(|planned| planned.path).all(|path| match s.owner(&self.scenario, slot) {
            Some(owner) if owner == path => s.stored.has(slot),
            Some(_) => !s.condemned.has(slot),
            None => false,
        })
    }

    /// The server's PUT, answered. Memory of other calls for the same push counts as one: each may note
    /// what any of them has sent.
    pub(crate) fn put(&self, s: &mut State, push: usize, slot: Slot) -> Option<()> {
        let text = s.recorded[slot];
        let ours = self.may_send(s, push, slot) && !s.uploads[push].sent.has(slot);
        if !Self::is_open(s, push) || !ours || s.stored.has(slot) || !s.may_land(text) {
            return None;
        }
        s.bucket[slot] = text;
        s.uploads[push].sent.insert(slot);
        if self.scenario.slow_calls { Some(()) } else { self.note(s, push, slot) }
    }

    /// A push sends the narinfos that it holds, and the realisation if it is that of such a one.
    fn may_send(&self, s: &State, push: usize, slot: Slot) -> bool {
        let narinfo = s.owner(&self.scenario, slot).unwrap_or(slot);
        self.planned(push, narinfo).is_some_and(|planned| narinfo == slot || planned.realised)
    }

    /// `note`: `mark_stored.sql`, in the gate, the upload's row locked.
    pub(crate) fn note(&self, s: &mut State, push: usize, slot: Slot) -> Option<()> {
        let upload = &mut s.uploads[push];
        let late = self.has(Mutation::NoteAfterEnd) && upload.stage == Stage::Committed;
        if !upload.sent.has(slot) || upload.stage != Stage::Open && !late {
            return None;
        }
        // Slow calls may be several, and each notes what it has sent.
        if !self.scenario.slow_calls {
            upload.sent.remove(slot);
        }
        if s.recorded[slot] != 0 {
            self.mark_stored(s, slot);
        }
        Some(())
    }

    /// The last wave.
    pub(crate) fn commit(&self, s: &mut State, push: usize) -> Option<()> {
        let planned = &self.scenario.pushes[push];
        let complete = planned.closure().within(s.stored) && self.realised(s, push);
        if !self.is_planned(s, push) || !complete {
            return None;
        }
        s.closures.insert(planned.root());
        self.end(s, push, Stage::Committed);
        Some(())
    }
}
