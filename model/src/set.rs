//! Objects, and small sets of them.

use std::{
    fmt,
    ops::{BitAnd, BitOr, BitOrAssign, Sub},
};

/// One key of the bucket, and the row of the database that is about it. Scenarios have at most
/// [`SLOTS`].
pub type Slot = usize;

/// Objects that a scenario may have.
pub const SLOTS: usize = 8;

/// A set of objects. A row's columns are kept as sets too: "the condemned rows".
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Set(u8);

impl Set {
    /// The set of none.
    pub const EMPTY: Self = Self(0);

    /// The set of one.
    #[must_use]
    pub const fn of(slot: Slot) -> Self {
        Self(1 << slot)
    }

    /// Whether `slot` is in it.
    #[must_use]
    pub const fn has(self, slot: Slot) -> bool {
        self.0 & 1 << slot != 0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of it is in `other`.
    #[must_use]
    pub const fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether the two have something in common.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Puts `slot` in.
    pub const fn insert(&mut self, slot: Slot) {
        self.0 |= 1 << slot;
    }

    /// Takes `slot` out.
    pub const fn remove(&mut self, slot: Slot) {
        self.0 &= !(1 << slot);
    }

    /// What is in it, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let slot = rest.trailing_zeros() as Slot;
            (rest != 0).then(|| {
                rest &= rest - 1;
                slot
            })
        })
    }
}

impl BitOr for Set {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Set {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Set {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Set {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<Slot> for Set {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        slots.into_iter().fold(Self::EMPTY, |set, slot| set | Self::of(slot))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Set;

    #[test]
    fn a_set_has_what_was_put_in() {
        let mut set: Set = [1, 4, 6].into_iter().collect();
        set.remove(4);
        set.insert(0);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 6]);
        assert!(set.within(set | Set::of(3)) && !(set | Set::of(3)).within(set));
        assert!((set - Set::of(0)).has(6) && !set.meets(Set::of(4)));
    }
}
