//! What a model is about: a few paths, who pushes them, and what may go wrong.

use crate::set::{SLOTS, Set, Slot};

/// Pushes that a scenario may have.
pub const PUSHES: usize = 4;

/// The contents of a NAR, what NarHash stands for. Pushes that plan the same contents need one NAR of it.
pub type Contents = u8;

/// One path of a plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its narinfo.
    pub path: Slot,
    /// What its NAR has. `None` leaves NARs out for this path: a smaller model.
    pub contents: Option<Contents>,
    /// Narinfos of its references, as this push has it.
    pub references: Set,
    /// Whether this push has a realisation for it.
    pub realised: bool,
}

/// One push: a closure, references first. The last path is its root.
#[derive(Clone, Debug)]
pub struct Push {
    /// What it plans.
    pub paths: Vec<Planned>,
    /// Committed before the model begins: it only leaves a closure.
    pub earlier: bool,
}

impl Push {
    /// All paths of the plan.
    #[must_use]
    pub fn closure(&self) -> Set {
        self.paths.iter().map(|planned| planned.path).collect()
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Slot {
        self.paths.last().map_or(0, |planned| planned.path)
    }
}

/// What the bucket may have under a key: for a narinfo, what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The key.
    pub of: Slot,
    /// What a reader will look for: a narinfo's NAR and references, a realisation's narinfo.
    pub names: Set,
    /// The narinfo that it belongs to, if it is a realisation.
    pub owner: Option<Slot>,
}

/// A NAR's key: one push's own.
#[derive(Clone, Debug)]
pub struct Nar {
    /// Whose key it is.
    pub push: usize,
    /// What it has.
    pub contents: Contents,
}

/// What is in the model. Everything else may happen at any time and in any order.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What is said of it.
    pub name: &'static str,
    /// Names of the paths: slots 0 and on are their narinfos.
    pub paths: Vec<&'static str>,
    /// The pushes. Each is opened at most once.
    pub pushes: Vec<Push>,
    /// Collectors: with two, one may be paused while the other works.
    pub collectors: usize,
    /// Answers of deletes may be lost, and deletes take effect late.
    pub lost_deletes: bool,
    /// Holds are taken and let go one by one, not all in one transaction.
    pub piecemeal: bool,
    /// A call of the server may pause between S3's answer and the transaction that notes it.
    pub slow_calls: bool,
    /// NARs of each push, in the slots after those of the paths.
    pub nars: Vec<Nar>,
    /// The realisation's slot, after those of the NARs.
    pub realisation: Option<Slot>,
    /// What may be in the bucket, from 1 on; 0 is nothing.
    pub texts: Vec<Text>,
}

impl Scenario {
    /// A scenario of `paths` and `pushes`, with one collector and nothing lost.
    ///
    /// # Panics
    /// When it has more than there is room for.
    #[must_use]
    pub fn new(name: &'static str, paths: &[&'static str], pushes: Vec<Push>) -> Self {
        let mut nars = Vec::new();
        for (number, push) in pushes.iter().enumerate() {
            let mut contents: Vec<_> = push.paths.iter().filter_map(|path| path.contents).collect();
            contents.sort_unstable();
            contents.dedup();
            nars.extend(contents.iter().map(|contents| Nar { push: number, contents: *contents }));
        }
        let realised = pushes.iter().any(|push| push.paths.iter().any(|path| path.realised));
        let realisation = realised.then_some(paths.len() + nars.len());
        assert!(paths.len() + nars.len() + usize::from(realised) <= SLOTS, "too many objects");
        assert!(pushes.len() <= PUSHES, "too many pushes");
        let mut scenario = Self {
            name,
            paths: paths.to_vec(),
            pushes,
            collectors: 1,
            lost_deletes: false,
            piecemeal: false,
            slow_calls: false,
            nars,
            realisation,
            texts: Vec::new(),
        };
        scenario.texts = scenario.all_texts();
        assert!(scenario.texts.len() <= 32, "too many texts");
        scenario
    }

    fn all_texts(&self) -> Vec<Text> {
        let mut texts = vec![Text { of: SLOTS, names: Set::EMPTY, owner: None }];
        let mut add = |text: Text| {
            if !texts.contains(&text) {
                texts.push(text);
            }
        };
        for nar in 0..self.nars.len() {
            add(Text { of: self.paths.len() + nar, names: Set::EMPTY, owner: None });
        }
        for planned in self.pushes.iter().flat_map(|push| &push.paths) {
            match planned.contents {
                None => add(Text { of: planned.path, names: planned.references, owner: None }),
                Some(contents) => {
                    for nar in self.nars_of(contents).iter() {
                        let names = planned.references | Set::of(nar);
                        add(Text { of: planned.path, names, owner: None });
                    }
                }
            }
            if let (true, Some(of)) = (planned.realised, self.realisation) {
                let owner = Some(planned.path);
                add(Text { of, names: Set::of(planned.path), owner });
            }
        }
        texts
    }

    /// All objects.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        0..self.paths.len() + self.nars.len() + usize::from(self.realisation.is_some())
    }

    /// The NARs of `contents`, whoever's.
    #[must_use]
    pub fn nars_of(&self, contents: Contents) -> Set {
        let nars = self.nars.iter().enumerate();
        nars.filter(|(_, nar)| nar.contents == contents)
            .map(|(n, _)| self.paths.len() + n)
            .collect()
    }

    /// The NAR that `push` may send.
    #[must_use]
    pub fn nar(&self, slot: Slot) -> Option<&Nar> {
        self.nars.get(slot.checked_sub(self.paths.len())?)
    }

    /// The number of a text. 0 if there is none such.
    #[must_use]
    pub fn text(&self, of: Slot, names: Set) -> u8 {
        let is = |text: &Text| text.of == of && text.names == names;
        self.texts.iter().position(is).unwrap_or(0) as u8
    }

    /// What an object is called in a trace.
    #[must_use]
    pub fn call(&self, slot: Slot) -> String {
        match (self.paths.get(slot), self.nar(slot)) {
            (Some(path), _) => format!("{path}.narinfo"),
            (_, Some(nar)) => format!("nar/{}-{}", nar.contents, nar.push),
            _ => "realisation".to_owned(),
        }
    }
}
