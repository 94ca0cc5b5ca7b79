//! The steps of a push: plan, URLs, stored, and its end.

use crate::{
    model::Niks3,
    mutation::Mutation,
    scenario::Contents,
    set::{Set, Slot},
    state::{Stage, State},
};

impl Niks3 {
    /// `commit_complete`: looks at the roots alone, since a published narinfo's closure is there.
    pub(crate) fn plan_complete(&self, s: &mut State, push: usize) -> Option<()> {
        let root = self.scenario.pushes[push].root();
        let fresh = s.uploads[push].stage == Stage::Unborn && s.stored.has(root);
        if !fresh || !self.may_plan(s, root) || !self.realised(s, push) {
            return None;
        }
        self.revive(s, root)?;
        s.closures.insert(root);
        s.uploads[push].stage = Stage::Over;
        Some(())
    }

    /// `hold_chunk`, of one path or of all: rows, revival, holds and adopted NARs in one transaction, in the
    /// gate. One that meets a claimed object rolls back, which is no step.
    pub(crate) fn plan(&self, s: &mut State, push: usize, last: bool) -> Option<()> {
        let planned = &self.scenario.pushes[push].paths;
        let done = usize::from(s.uploads[push].planned);
        if !matches!(s.uploads[push].stage, Stage::Unborn | Stage::Open) || done == planned.len() {
            return None;
        }
        let chunk = if self.scenario.piecemeal { &planned[done..=done] } else { &planned[..] };
        for path in chunk {
            let slot = path.path;
            if !self.may_plan(s, slot) {
                return None;
            }
            s.rows.insert(slot);
            self.revive(s, slot)?;
            s.uploads[push].holds.insert(slot);
            if let (0, Some(contents)) = (s.recorded[slot], path.contents)
                && let Some(nar) = self.stored_nar(s, contents, last)
            {
                s.uploads[push].holds.insert(nar);
                s.condemned.remove(nar);
            }
        }
        s.uploads[push].planned += chunk.len() as u8;
        s.uploads[push].stage = Stage::Open;
        Some(())
    }

    fn may_plan(&self, s: &State, slot: Slot) -> bool {
        self.has(Mutation::PlanClaimed) || !s.all_claimed().has(slot)
    }

    /// `revive`: recursively, along condemned references; nothing if one of them is claimed.
    pub(crate) fn revive(&self, s: &mut State, slot: Slot) -> Option<()> {
        if self.has(Mutation::ForgetToRevive) || !s.condemned.has(slot) {
            return Some(());
        }
        let mut work = Set::of(slot);
        while let Some(next) = work.iter().next() {
            if !self.may_plan(s, next) {
                return None;
            }
            work.remove(next);
            s.condemned.remove(next);
            if !self.has(Mutation::ForgetReferences) {
                work |= s.references(&self.scenario, next) & s.condemned;
            }
            if !self.has(Mutation::ForgetRealisation) {
                work |= s.realisations(&self.scenario, next) & s.condemned;
            }
        }
        Some(())
    }

    /// The NAR of `contents` that was stored first. The model does not know the order: it tries both.
    pub(crate) fn stored_nar(&self, s: &State, contents: Contents, last: bool) -> Option<Slot> {
        let nars = (self.scenario.nars_of(contents) & s.stored) - s.all_claimed();
        if last { nars.iter().last() } else { nars.iter().next() }
    }

    pub(crate) fn is_open(s: &State, push: usize) -> bool {
        s.uploads[push].stage == Stage::Open
    }

    pub(crate) fn is_planned(&self, s: &State, push: usize) -> bool {
        Self::is_open(s, push)
            && usize::from(s.uploads[push].planned) == self.scenario.pushes[push].paths.len()
    }

    /// `grant`: a stored NAR is adopted; else the push's own key may be written, again if an earlier URL
    /// has expired. The URLs leave the server after the transaction, signed with its time.
    pub(crate) fn urls(&self, s: &mut State, push: usize, nar: Slot, last: bool) -> Option<()> {
        let own = self.scenario.nar(nar)?;
        if !self.is_planned(s, push) {
            return None;
        }
        if let Some(found) = self.stored_nar(s, own.contents, last) {
            s.uploads[push].holds.insert(found);
            s.condemned.remove(found);
            return Some(());
        }
        if s.all_claimed().has(nar) {
            return None;
        }
        s.rows.insert(nar);
        s.condemned.remove(nar);
        s.uploads[push].holds.insert(nar);
        self.allow(s, nar, self.scenario.text(nar, Set::EMPTY));
        Some(())
    }

    /// From now on somebody may write `text`, until the fence that is recorded in the same transaction.
    pub(crate) fn allow(&self, s: &mut State, slot: Slot, text: u8) {
        s.writable.insert(slot);
        s.puts |= 1 << text;
    }

    /// `stored`, its look.
    pub(crate) fn look(&self, s: &mut State, push: usize, nar: Slot) -> Option<()> {
        let found = Self::is_open(s, push) && s.uploads[push].holds.has(nar) && s.bucket[nar] != 0;
        if !found || s.stored.has(nar) {
            return None;
        }
        s.uploads[push].seen.insert(nar);
        if self.scenario.slow_calls { Some(()) } else { self.report(s, push, nar) }
    }

    /// `stored`, its `record`: locks the upload again.
    pub(crate) fn report(&self, s: &mut State, push: usize, nar: Slot) -> Option<()> {
        let upload = &mut s.uploads[push];
        let late = self.has(Mutation::ReportAfterEnd);
        let own = late || upload.stage == Stage::Open && upload.holds.has(nar);
        if !own || !upload.seen.has(nar) {
            return None;
        }
        upload.seen.remove(nar);
        self.mark_stored(s, nar);
        Some(())
    }

    pub(crate) fn mark_stored(&self, s: &mut State, slot: Slot) {
        if s.rows.has(slot) && !s.all_claimed().has(slot) {
            s.stored.insert(slot);
        }
    }

    /// Given up or expired: at any time, since an upload may be given up while its URLs are good.
    pub(crate) fn fail(&self, s: &mut State, push: usize) -> Option<()> {
        Self::is_open(s, push).then(|| self.end(s, push, Stage::Failed))
    }

    /// What calls have in memory can do nothing any more: it is forgotten, unless a mutation uses it.
    pub(crate) fn end(&self, s: &mut State, push: usize, stage: Stage) {
        let upload = &mut s.uploads[push];
        (upload.stage, upload.planned) = (stage, 0);
        if !self.has(Mutation::ReportAfterEnd) {
            upload.seen = Set::EMPTY;
        }
        if !self.has(Mutation::NoteAfterEnd) {
            upload.sent = Set::EMPTY;
        }
    }

    /// `release_holds.sql`, of one object or of all.
    pub(crate) fn release(&self, s: &mut State, push: usize, one: Option<Slot>) -> Option<()> {
        let held = s.uploads[push].holds;
        let gone = one.map_or(held, Set::of);
        let ended = matches!(s.uploads[push].stage, Stage::Committed | Stage::Failed);
        if !ended || gone.is_empty() || !gone.within(held) {
            return None;
        }
        s.uploads[push].holds = held - gone;
        if !self.has(Mutation::ReleaseSilently) {
            let alive = |slot| !(s.referrers(&self.scenario, slot) - s.condemned).is_empty();
            let noted: Set =
                gone.iter().filter(|slot| !s.closures.has(*slot) && !alive(*slot)).collect();
            s.candidates |= noted & s.rows;
        }
        let upload = &mut s.uploads[push];
        // Memory that a mutation may still use keeps its stage.
        if (upload.holds | upload.seen | upload.sent).is_empty() {
            upload.stage = Stage::Over;
        }
        Some(())
    }
}
