//! What S3 does, and when it is too late for it.
//!
//! A fence is the time from which on S3 refuses a URL, and the slack after which requests that it took
//! before have ended. It comes at any moment, and with it all that is under way ends. So a request takes effect
//! at any moment before its fence or never, and the fence is the earliest moment at which that is known.

use crate::{model::Niks3, mutation::Mutation, set::Slot, state::State};

impl Niks3 {
    /// The claim's requests are refused from here on, and those under way have ended.
    pub(crate) fn claim_fence(&self, s: &mut State, slot: Slot) -> Option<()> {
        if !s.deletable.has(slot) {
            return None;
        }
        s.deletable.remove(slot);
        if !self.has(Mutation::UnfencedDelete) {
            s.deletes.remove(slot);
        }
        Some(())
    }

    /// `writable_until` comes: URLs are refused from here on, and requests under way have ended.
    pub(crate) fn write_fence(&self, s: &mut State, slot: Slot) -> Option<()> {
        if !s.writable.has(slot) {
            return None;
        }
        s.writable.remove(slot);
        if !self.has(Mutation::ExpireBeforeUrls) {
            s.puts &= !self.texts_of(slot);
        }
        Some(())
    }

    /// S3 takes a text.
    pub(crate) fn land(&self, s: &mut State, text: u8) -> Option<()> {
        let slot = self.scenario.texts[usize::from(text)].of;
        if !s.may_land(text) || s.bucket[slot] == text {
            return None;
        }
        s.bucket[slot] = text;
        // It was the last try of somebody whose time is over: no more will come.
        if !s.writable.has(slot) {
            s.puts &= !(1 << text);
        }
        Some(())
    }

    /// S3 carries out a delete that nobody waits for.
    pub(crate) fn land_delete(&self, s: &mut State, slot: Slot) -> Option<()> {
        if !s.deletes.has(slot) {
            return None;
        }
        s.deletes.remove(slot);
        s.bucket[slot] = 0;
        Some(())
    }

    pub(crate) fn texts_of(&self, slot: Slot) -> u32 {
        let texts = self.scenario.texts.iter().enumerate();
        texts.filter(|(_, text)| text.of == slot).fold(0, |all, (n, _)| all | 1 << n)
    }
}
