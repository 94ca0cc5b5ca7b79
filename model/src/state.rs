//! Everything there is at one moment: the database, the bucket, requests on their way to it, and what
//! processes have in memory.

use crate::{
    scenario::{PUSHES, Scenario},
    set::{SLOTS, Set, Slot},
};

/// What has become of a push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Its client has not called yet.
    #[default]
    Unborn,
    /// It has a row, and a part of its plan is held.
    Open,
    /// Its root is a closure.
    Committed,
    /// Given up by its client, or expired.
    Failed,
    /// One or the other, and all that it held is let go: which it was makes no difference any more.
    Over,
}

/// A push: its row, its holds, and what the server's calls for it have in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Upload {
    /// Its row.
    pub stage: Stage,
    /// How many of its paths are planned.
    pub planned: u8,
    /// Its rows in `holds`.
    pub holds: Set,
    /// In memory: NARs that a HEAD has found in the bucket, and that are not noted as stored yet.
    pub seen: Set,
    /// In memory: objects of which S3 has answered the server's PUT, and that are not noted yet.
    pub sent: Set,
}

/// What a collector has in memory. Its row in the database is only the session lock, and losing that
/// does not stop it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Collector {
    /// What it has claimed and not forgotten.
    pub batch: Set,
    /// What S3 has answered to have deleted.
    pub deleted: Set,
    /// Of what some request was never answered.
    pub unanswered: Set,
}

impl Collector {
    /// Thinks of `slot` no more.
    pub fn forget(&mut self, slot: Slot) {
        self.batch.remove(slot);
        self.deleted.remove(slot);
        self.unanswered.remove(slot);
    }
}

/// Everything.
///
/// There is no clock. A time that a row notes is a bit, which says that it has not come yet; that it
/// comes is an event, which may happen at any moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Rows of `objects`.
    pub rows: Set,
    /// `stored_at IS NOT NULL`.
    pub stored: Set,
    /// `condemned_at IS NOT NULL`.
    pub condemned: Set,
    /// `claimed_at IS NOT NULL`, by the collector whose token it is.
    pub claimed: [Set; 2],
    /// `claim_until` has not come: a delete of this claim may be under way.
    pub deletable: Set,
    /// `writable_until` has not come: somebody may be able to write it.
    pub writable: Set,
    /// `narinfos`: the recorded text of a composed path. A realisation's: whose it is.
    pub recorded: [u8; SLOTS],
    /// `closures`.
    pub closures: Set,
    /// `candidates`.
    pub candidates: Set,
    /// `uploads` and `holds`.
    pub uploads: [Upload; PUSHES],
    /// In the bucket.
    pub bucket: [u8; SLOTS],
    /// Texts that somebody has a URL for, or a request under way: S3 may take them at any moment, and more
    /// than once, since requests are tried again.
    pub puts: u32,
    /// Deletes that nobody waits for any more and that S3 may still carry out.
    pub deletes: Set,
    /// The collectors' memory.
    pub collectors: [Collector; 2],
    /// What a mutated collector has found to be garbage, in a transaction of its own.
    pub asked: Set,
    /// What a mutated collector has found to be condemned, in a transaction of its own.
    pub chosen: Set,
}

impl State {
    /// Rows that are being deleted.
    #[must_use]
    pub fn all_claimed(&self) -> Set {
        self.claimed[0] | self.claimed[1]
    }

    /// Objects that unfinished uploads need, and finished ones that have not let go yet.
    #[must_use]
    pub fn held(&self) -> Set {
        self.uploads.iter().fold(Set::EMPTY, |held, upload| held | upload.holds)
    }

    /// `refs` with src `slot`: written when its path was composed, gone with its row. A realisation has
    /// none: whose it is, is a column.
    #[must_use]
    pub fn references(&self, model: &Scenario, slot: Slot) -> Set {
        if model.realisation == Some(slot) || !self.rows.has(slot) {
            return Set::EMPTY;
        }
        model.texts[usize::from(self.recorded[slot])].names
    }

    /// `refs` with dst `slot`.
    #[must_use]
    pub fn referrers(&self, model: &Scenario, slot: Slot) -> Set {
        self.rows.iter().filter(|row| self.references(model, *row).has(slot)).collect()
    }

    /// The realisation, if it is one of `narinfo`.
    #[must_use]
    pub fn realisations(&self, model: &Scenario, narinfo: Slot) -> Set {
        let own = |slot: &Slot| self.rows.has(*slot) && self.owner(model, *slot) == Some(narinfo);
        model.realisation.filter(own).into_iter().collect()
    }

    /// Whose a realisation is.
    #[must_use]
    pub fn owner(&self, model: &Scenario, slot: Slot) -> Option<Slot> {
        model.texts[usize::from(self.recorded[slot])].owner
    }

    /// The question: no closure, no hold, and nothing refers to it that is itself not condemned. A
    /// realisation is garbage when its narinfo is.
    #[must_use]
    pub fn is_garbage(&self, model: &Scenario, slot: Slot) -> bool {
        if let Some(owner) = self.owner(model, slot) {
            return self.condemned.has(owner);
        }
        !self.closures.has(slot)
            && !self.held().has(slot)
            && (self.referrers(model, slot) - self.condemned).is_empty()
    }

    /// `from`, and all that it refers to in the database, with their realisations.
    #[must_use]
    pub fn reach(&self, model: &Scenario, from: Set) -> Set {
        let (mut all, mut new) = (from, from);
        while !new.is_empty() {
            let next = new.iter().fold(Set::EMPTY, |next, slot| {
                next | self.references(model, slot) | self.realisations(model, slot)
            });
            new = next - all;
            all |= next;
        }
        all
    }

    /// What should be in the bucket under the key of a stored row.
    #[must_use]
    pub fn expected(&self, model: &Scenario, slot: Slot) -> u8 {
        match model.nar(slot) {
            Some(_) => model.text(slot, Set::EMPTY),
            None => self.recorded[slot],
        }
    }

    /// Whether S3 may still take a text.
    #[must_use]
    pub fn may_land(&self, text: u8) -> bool {
        self.puts & 1 << text != 0
    }

    /// The row is deleted. Ids do not come again, so memory of its id means nothing from then on: it is
    /// cleared, and states do not differ by it. A collector's batch is of keys, which do come again.
    pub fn delete_row(&mut self, slot: Slot) {
        for column in [
            &mut self.rows,
            &mut self.stored,
            &mut self.condemned,
            &mut self.deletable,
            &mut self.writable,
            &mut self.candidates,
            &mut self.asked,
            &mut self.chosen,
        ] {
            column.remove(slot);
        }
        self.claimed.iter_mut().for_each(|claimed| claimed.remove(slot));
        self.recorded[slot] = 0;
        for upload in &mut self.uploads {
            upload.seen.remove(slot);
            upload.sent.remove(slot);
        }
        for collector in &mut self.collectors {
            collector.deleted.remove(slot);
            collector.unanswered.remove(slot);
        }
    }
}
