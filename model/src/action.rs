//! What may happen next. Each action is one transaction, one request taking effect in the bucket, or
//! one time that comes.

use crate::set::Slot;

/// A step. Numbers of pushes and collectors are places in the scenario's lists.
///
/// A crash is no step of its own: what a process has in memory is used by a later step or by none, and
/// a step that never comes is how a crash looks from outside. Between any two steps of one process all
/// others may happen, and nothing forces the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Push: a plan that finds all roots published commits them at once.
    PlanComplete(usize),
    /// Push: a chunk of the plan is held. `true`: of several stored NARs the last is adopted.
    Plan(usize, bool),
    /// Push: URLs for a NAR of this push, or another one adopted.
    Urls(usize, Slot, bool),
    /// Push: the server finds a NAR in the bucket (HEAD).
    Look(usize, Slot),
    /// Push: what was found is noted as stored.
    Report(usize, Slot),
    /// Push: a path is composed unless it is, and may be written from now on.
    Compose(usize, Slot, bool),
    /// Push: the same for the realisation of a path that is published.
    Realise(usize, Slot),
    /// Push: S3 takes the server's PUT, and its answer arrives.
    Put(usize, Slot),
    /// Push: that is noted.
    Note(usize, Slot),
    /// Push: all is there, the root becomes a closure.
    Commit(usize),
    /// Push: its client gives up, or it expires.
    Fail(usize),
    /// An ended push lets go: of one object, or of all.
    Release(usize, Option<Slot>),
    /// S3 takes a text: from a client, or after the answer was given up on.
    Land(u8),
    /// `writable_until` comes.
    WriteFence(Slot),
    /// A closure expires.
    Expire(Slot),
    /// A mutated collector asks, and will act upon it later.
    Ask(Slot),
    /// A mutated collector finds what it will claim later.
    Choose(Slot),
    /// A candidate is looked at, and condemned if it is garbage.
    Condemn(Slot),
    /// A collector claims.
    Claim(usize, Slot),
    /// A delete takes effect, and its answer arrives.
    Delete(usize, Slot),
    /// A delete is sent, and nobody learns what became of it.
    LoseDelete(usize, Slot),
    /// A delete of which nobody waits for the answer takes effect.
    LandDelete(Slot),
    /// A collector deletes the row.
    DeleteRow(usize, Slot),
    /// A collector forgets a key that it has lost to another.
    Forget(usize, Slot),
    /// `claim_until` comes.
    ClaimFence(Slot),
    /// What could not be deleted is given back: unstored, condemned, with its references.
    Unclaim(Slot),
}
