//! What can be wrong.

use serde::Serialize;

/// What can be wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Reachable, and condemned or claimed.
    NeededButCondemned,
    /// Not reachable, not condemned, and no collection will ask about it.
    Forgotten,
    /// A row of refs without one of its ends.
    DanglingReference,
    /// A closure, pin, hold, path of an upload or candidate without its object or upload.
    DanglingHolder,
    /// A row of narinfos without its object.
    DanglingNarinfo,
    /// A stored narinfo without its row in narinfos.
    NotComposed,
    /// A composed narinfo whose NAR is not stored, or that does not refer to it.
    NarMissing,
    /// A stored narinfo that refers to one that is not.
    ReferenceNotPublished,
    /// A key of ours in the bucket that has no row.
    ObjectWithoutRow,
    /// A stored object that is not in the bucket.
    StoredNotThere,
    /// A stored object that has another size there.
    OtherSize,
    /// A narinfo in the bucket that is not composed and that nobody is composing.
    NotStoredButThere,
    /// A pin's file without its pin.
    PinFileWithoutRow,
    /// A pin without its file.
    PinFileMissing,
    /// A pin whose file says something else.
    PinFileOther,
}

impl Kind {
    /// What it means, for people: the rest of a sentence that begins with how many there are.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NeededButCondemned => {
                "needed, and yet condemned: garbage collection may delete what somebody needs"
            }
            Self::Forgotten => {
                "forgotten: nothing needs them, and no garbage collection will ever delete them"
            }
            Self::DanglingReference => "references from or to an object that the database has not",
            Self::DanglingHolder => {
                "closures, pins, holds, paths of uploads or candidates whose object or upload the \
                 database has not"
            }
            Self::DanglingNarinfo => "texts of narinfos whose object the database has not",
            Self::NotComposed => "narinfos said to be published, whose text the database has not",
            Self::NarMissing => {
                "narinfos whose NAR is not said to be in the bucket, or is not kept"
            }
            Self::ReferenceNotPublished => "published narinfos that refer to one that is not",
            Self::ObjectWithoutRow => {
                "objects in the bucket that the database does not know: nobody will ever delete them"
            }
            Self::StoredNotThere => "objects said to be in the bucket that are not there",
            Self::OtherSize => "objects in the bucket that have another size than they should",
            Self::NotStoredButThere => {
                "narinfos in the bucket that are not said to be there: readers may find no NAR for them"
            }
            Self::PinFileWithoutRow => "files of pins in the bucket that are no pins",
            Self::PinFileMissing => "pins whose file is not in the bucket",
            Self::PinFileOther => "pins whose file in the bucket says something else",
        }
    }
}
