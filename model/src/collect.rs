//! The steps of garbage collection. Batches are of one object: a batch of more has fewer interleavings,
//! and those are among these.

use crate::{model::Niks3, mutation::Mutation, set::Slot, state::State};

impl Niks3 {
    /// A closure is old enough, and not pinned: at any time.
    pub(crate) fn expire(&self, s: &mut State, root: Slot) -> Option<()> {
        if !s.closures.has(root) {
            return None;
        }
        s.closures.remove(root);
        if !self.has(Mutation::ExpireSilently) {
            s.candidates.insert(root);
        }
        Some(())
    }

    /// Only a mutation asks first and acts later.
    pub(crate) fn ask(&self, s: &mut State, slot: Slot) -> Option<()> {
        let ask = self.has(Mutation::CondemnOutsideGate) && !s.asked.has(slot);
        let garbage = s.candidates.has(slot) && s.is_garbage(&self.scenario, slot);
        (ask && garbage).then(|| s.asked.insert(slot))
    }

    /// One transaction, alone in the gate: no plan, commit or release runs beside it.
    pub(crate) fn condemn(&self, s: &mut State, slot: Slot) -> Option<()> {
        let asked = s.asked.has(slot);
        if !s.candidates.has(slot) || self.has(Mutation::CondemnOutsideGate) && !asked {
            return None;
        }
        s.candidates.remove(slot);
        s.asked.remove(slot);
        if (asked || s.is_garbage(&self.scenario, slot)) && !s.condemned.has(slot) {
            s.condemned.insert(slot);
            s.condemned |= s.realisations(&self.scenario, slot);
            if !self.has(Mutation::CondemnSilently) {
                s.candidates |= s.references(&self.scenario, slot);
            }
        }
        Some(())
    }

    /// Only a mutation chooses first and claims later.
    pub(crate) fn choose(&self, s: &mut State, slot: Slot) -> Option<()> {
        let choose = self.has(Mutation::SkipRecheck) && !s.chosen.has(slot);
        (choose && s.condemned.has(slot)).then(|| s.chosen.insert(slot))
    }

    /// One transaction, alone in the gate. The grace period is any time: it may be over at once.
    pub(crate) fn claim(&self, s: &mut State, collector: usize, slot: Slot) -> Option<()> {
        let skip = self.has(Mutation::SkipRecheck);
        let wanted = if skip { s.chosen } else { s.condemned };
        if !wanted.has(slot) || s.all_claimed().has(slot) || !self.is_loose(s, slot) {
            return None;
        }
        // The question again. Its part about referrers is answered: there are none at all.
        if !skip && self.is_needed(s, slot) {
            return self.revive(s, slot);
        }
        let quiet = self.has(Mutation::ClaimWhileWritable) || !s.writable.has(slot);
        // One that still thinks of an older claim would confuse the two: in the database, tokens differ.
        let confused = s.collectors[collector].batch.has(slot);
        if !quiet || collector != Self::awake(s) || confused {
            return None;
        }
        s.chosen.remove(slot);
        s.claimed[collector].insert(slot);
        s.deletable.insert(slot);
        s.collectors[collector].batch.insert(slot);
        Some(())
    }

    fn is_needed(&self, s: &State, slot: Slot) -> bool {
        let owner = s.owner(&self.scenario, slot);
        let alive = owner.is_some_and(|owner| !s.condemned.has(owner));
        alive || s.closures.has(slot) || s.held().has(slot)
    }

    /// The collector that claims: the second one while the first has lost a claim and does not know it yet.
    /// Two that are both awake would be no different from one, since a claim knows nothing of others.
    fn awake(s: &State) -> usize {
        usize::from(!s.collectors[0].batch.within(s.claimed[0]))
    }

    /// No row refers to it, and no realisation is its: what needed it has been deleted before.
    fn is_loose(&self, s: &State, slot: Slot) -> bool {
        let unreferred =
            self.has(Mutation::ClaimReferred) || s.referrers(&self.scenario, slot).is_empty();
        let unrealised = self.has(Mutation::ClaimBeforeRealisation)
            || s.realisations(&self.scenario, slot).is_empty();
        unreferred && unrealised
    }

    /// Whether S3 still carries out what this collector sends now: its requests were signed when it
    /// claimed, and are refused from the claim's fence on. A claim that is not its own any more has
    /// passed its fence.
    fn may_delete(&self, s: &State, collector: usize, slot: Slot) -> bool {
        let signed = s.claimed[collector].has(slot) && s.deletable.has(slot);
        s.collectors[collector].batch.has(slot) && (signed || self.has(Mutation::UnfencedDelete))
    }

    /// A delete that is answered. What S3 answers with an error has changed nothing and is no step: the
    /// key may be tried again, or is left. A batch that fails in part is one of which some keys are left.
    pub(crate) fn delete(&self, s: &mut State, collector: usize, slot: Slot) -> Option<()> {
        if !self.may_delete(s, collector, slot) {
            return None;
        }
        s.bucket[slot] = 0;
        s.collectors[collector].deleted.insert(slot);
        Some(())
    }

    /// A delete whose answer is lost, or was not S3's: it takes effect later, or never.
    pub(crate) fn lose_delete(&self, s: &mut State, collector: usize, slot: Slot) -> Option<()> {
        if !self.scenario.lost_deletes || !self.may_delete(s, collector, slot) {
            return None;
        }
        s.deletes.insert(slot);
        if !self.has(Mutation::BelieveProxies) {
            s.collectors[collector].unanswered.insert(slot);
        }
        Some(())
    }

    /// Rows go with the claim's token, and only of keys of which all requests are over.
    pub(crate) fn delete_rows(&self, s: &mut State, collector: usize, slot: Slot) -> Option<()> {
        let memory = s.collectors[collector];
        let travels = memory.unanswered.has(slot) && s.deletable.has(slot);
        let over = !travels || self.has(Mutation::ForgetUnanswered);
        let own = s.claimed[collector].has(slot)
            || self.has(Mutation::RowsWithoutToken) && s.rows.has(slot);
        if !memory.deleted.has(slot) || !over {
            return None;
        }
        if !own && self.has(Mutation::RefsWithoutToken) {
            s.recorded[slot] = 0;
            s.collectors[collector].forget(slot);
            return Some(());
        }
        if !own {
            return None;
        }
        s.delete_row(slot);
        s.collectors[collector].batch.remove(slot);
        Some(())
    }

    /// A paused collector learns that a key is not its own any more, or dies.
    pub(crate) fn forget(&self, s: &mut State, collector: usize, slot: Slot) -> Option<()> {
        let lost = !s.claimed[collector].has(slot);
        let memory = &mut s.collectors[collector];
        (lost && memory.batch.has(slot)).then(|| memory.forget(slot))
    }

    /// By the next sweep, or by a plan that meets it.
    pub(crate) fn unclaim(&self, s: &mut State, slot: Slot) -> Option<()> {
        let over = !s.deletable.has(slot) || self.has(Mutation::UnclaimEarly);
        if !s.all_claimed().has(slot) || !over {
            return None;
        }
        for collector in 0..2 {
            s.claimed[collector].remove(slot);
            // With one collector nobody is paused: it sees that the claim is over.
            if self.scenario.collectors == 1 {
                s.collectors[collector].forget(slot);
            }
        }
        s.deletable.remove(slot);
        if !self.has(Mutation::UnclaimStored) {
            s.stored.remove(slot);
        }
        Some(())
    }
}
