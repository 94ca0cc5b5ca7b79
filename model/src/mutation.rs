//! Deliberate bugs: what the protocol would be without one of its rules.

/// A rule left out. Each is tried by a test that expects the model to find the accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutation {
    /// A claim takes what was found condemned some time before the gate, and asks nothing again.
    SkipRecheck,
    /// A claim takes an object although a row refers to it.
    ClaimReferred,
    /// A claim takes an object although somebody may still be able to write it.
    ClaimWhileWritable,
    /// A narinfo is claimed before its realisation is gone.
    ClaimBeforeRealisation,
    /// The question is asked in one transaction, and the answer acted upon in another.
    CondemnOutsideGate,
    /// A plan holds a condemned object and leaves it condemned.
    ForgetToRevive,
    /// Reviving an object forgets what it refers to.
    ForgetReferences,
    /// Reviving a narinfo forgets its realisation.
    ForgetRealisation,
    /// A plan takes hold of what is being deleted.
    PlanClaimed,
    /// Holds are let go, and nobody notes of what.
    ReleaseSilently,
    /// A closure expires, and nobody notes which.
    ExpireSilently,
    /// An object is condemned, and nobody notes what it referred to.
    CondemnSilently,
    /// `writable_until` is noted shorter than URLs are good for, or without the time of slow bodies.
    ExpireBeforeUrls,
    /// Deletes are signed for ever: a collector that was paused sends them when it wakes up.
    UnfencedDelete,
    /// The row of a key goes when one delete of it succeeded, while another still travels.
    ForgetUnanswered,
    /// An error that a proxy answered to a delete is taken for S3's: as if nothing travelled any more.
    BelieveProxies,
    /// Rows are deleted by key: whose claim it is now is not asked.
    RowsWithoutToken,
    /// Rows are deleted with the token, their references and compositions by id alone.
    RefsWithoutToken,
    /// What could not be deleted is given back while deletes of it may be under way.
    UnclaimEarly,
    /// What could not be deleted is given back as if it were still there.
    UnclaimStored,
    /// A call that has published a narinfo notes so although its upload has ended meanwhile.
    NoteAfterEnd,
    /// A NAR that was seen in the bucket is noted as stored although its upload has ended meanwhile.
    ReportAfterEnd,
    /// A narinfo is published before those of its references are.
    PublishEarly,
    /// Another composer writes its own text over that which is recorded.
    ComposeTwice,
    /// A realisation's key is taken over while it still belongs to another path.
    TakeRealisation,
}

/// The mutations of a model: none, or those of a test.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutations(u32);

impl Mutations {
    /// Those given.
    #[must_use]
    pub fn of(mutations: &[Mutation]) -> Self {
        Self(mutations.iter().fold(0, |set, mutation| set | 1 << *mutation as u8))
    }

    /// Whether `mutation` is among them.
    #[must_use]
    pub const fn has(self, mutation: Mutation) -> bool {
        self.0 & 1 << mutation as u8 != 0
    }
}
