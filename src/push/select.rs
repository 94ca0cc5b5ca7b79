//! Which roots go, and how many closures in one push: plain values.

use std::collections::{HashMap, HashSet};

use glob::Pattern;
use niks3_core::store_path::StorePath;

use crate::{nix::ValidPath, text::human_bytes};

/// Paths in one push, as far as closures can be kept whole: a tenth of what a server takes, so that
/// `--all` of a large store is committed bit by bit.
pub const BATCH_PATHS: usize = 20_000;

/// Closures that are pushed together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// What was asked for.
    pub roots: Vec<StorePath>,
    /// The roots and all that they need.
    pub paths: Vec<ValidPath>,
}

/// Roots that shall not go.
#[derive(Clone, Debug, Default)]
pub struct LeaveOut {
    /// Whose name, without the hash, one of these matches. `--exclude`
    pub names: Vec<Pattern>,
    /// Whose NAR has more bytes. `--max-nar-size`
    pub larger_than: Option<u64>,
}

impl LeaveOut {
    /// Nothing is left out.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.names.is_empty() && self.larger_than.is_none()
    }

    /// Why a root is left out, if it is.
    #[must_use]
    pub fn reason(&self, path: &ValidPath) -> Option<String> {
        let name = path.path.name();
        if let Some(pattern) = self.names.iter().find(|pattern| pattern.matches(name)) {
            return Some(format!("it matches --exclude {pattern}"));
        }
        let limit = self.larger_than.filter(|limit| path.nar_size > *limit)?;
        let (bytes, limit) = (human_bytes(path.nar_size), human_bytes(limit));
        Some(format!("its NAR has {bytes}, --max-nar-size is {limit}"))
    }
}

/// Batches of up to `most` paths that have each root with its whole closure; a closure that is larger
/// is a batch of its own. `closure` is that of all `roots`.
#[must_use]
pub fn batches(closure: Vec<ValidPath>, roots: &[StorePath], most: usize) -> Vec<Batch> {
    if roots.is_empty() {
        return Vec::new();
    }
    if closure.len() <= most {
        return vec![Batch { roots: roots.to_vec(), paths: closure }];
    }
    let index: HashMap<&StorePath, usize> =
        closure.iter().enumerate().map(|(index, path)| (&path.path, index)).collect();
    let mut batches = Vec::new();
    let (mut batch_roots, mut batch) = (Vec::new(), HashSet::new());
    for root in roots {
        let mut added = missing(&closure, &index, &batch, root);
        if batch.len() + added.len() > most && !batch_roots.is_empty() {
            batches.push(gather(&closure, std::mem::take(&mut batch_roots), &batch));
            batch.clear();
            added = missing(&closure, &index, &batch, root);
        }
        batch.extend(added);
        batch_roots.push(root.clone());
    }
    if !batch_roots.is_empty() {
        batches.push(gather(&closure, batch_roots, &batch));
    }
    batches
}

/// The closure of `root` as far as it is not in `batch`, which is closed under references.
fn missing(
    closure: &[ValidPath],
    index: &HashMap<&StorePath, usize>,
    batch: &HashSet<usize>,
    root: &StorePath,
) -> HashSet<usize> {
    let mut found = HashSet::new();
    let mut next: Vec<usize> = index.get(root).copied().into_iter().collect();
    while let Some(path) = next.pop() {
        if !batch.contains(&path) && found.insert(path) {
            next.extend(closure[path].references.iter().filter_map(|to| index.get(to)));
        }
    }
    found
}

fn gather(closure: &[ValidPath], roots: Vec<StorePath>, batch: &HashSet<usize>) -> Batch {
    let mut indexes: Vec<usize> = batch.iter().copied().collect();
    indexes.sort_unstable();
    Batch { roots, paths: indexes.into_iter().map(|index| closure[index].clone()).collect() }
}

#[cfg(test)]
mod tests {
    use niks3_core::hash::NarHash;

    use super::*;

    fn path(name: &str, nar_size: u64, references: &[&str]) -> ValidPath {
        ValidPath {
            path: store_path(name),
            nar_hash: NarHash::new([0; 32]),
            nar_size,
            references: references.iter().map(|name| store_path(name)).collect(),
            deriver: None,
            ca: None,
            signatures: Vec::new(),
            realisations: Vec::new(),
        }
    }

    fn store_path(name: &str) -> StorePath {
        format!("{}-{name}", name.chars().cycle().take(32).collect::<String>()).parse().unwrap()
    }

    fn names<'a>(paths: impl Iterator<Item = &'a StorePath>) -> String {
        paths.map(StorePath::name).collect::<Vec<_>>().join("")
    }

    #[test]
    fn every_closure_is_whole_and_small_ones_go_together() {
        // a → b → c, d → c, f → g → h → i
        let closure = vec![
            path("a", 1, &["b", "a"]),
            path("b", 1, &["c"]),
            path("c", 1, &[]),
            path("d", 1, &["c"]),
            path("f", 1, &["g"]),
            path("g", 1, &["h"]),
            path("h", 1, &["i"]),
            path("i", 1, &[]),
        ];
        let roots: Vec<_> = ["a", "d", "f", "g"].map(store_path).into();
        let shown = |most| -> Vec<(String, String)> {
            batches(closure.clone(), &roots, most)
                .iter()
                .map(|batch| {
                    let paths = names(batch.paths.iter().map(|path| &path.path));
                    (names(batch.roots.iter()), paths)
                })
                .collect()
        };
        let owned = |batches: &[(&str, &str)]| -> Vec<(String, String)> {
            batches.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        assert_eq!(shown(8), owned(&[("adfg", "abcdfghi")]));
        assert_eq!(shown(4), owned(&[("ad", "abcd"), ("fg", "fghi")]));
        assert_eq!(shown(3), owned(&[("a", "abc"), ("d", "cd"), ("f", "fghi"), ("g", "ghi")]));
    }

    #[test]
    fn roots_are_left_out_by_name_and_by_size() {
        let leave_out = LeaveOut {
            names: vec![Pattern::new("nixos-*.iso").unwrap(), Pattern::new("x").unwrap()],
            larger_than: Some(1000),
        };
        let reason = |name: &str, bytes| {
            let hash = "00000000000000000000000000000000";
            let mut path = path("a", bytes, &[]);
            path.path = format!("{hash}-{name}").parse().unwrap();
            leave_out.reason(&path)
        };
        assert_eq!(reason("hello", 1000), None);
        assert_eq!(reason("xy", 1), None);
        assert!(reason("nixos-24.iso", 1).unwrap().contains("--exclude nixos-*.iso"));
        assert!(reason("hello", 1001).unwrap().contains("1.0 kB"));
        assert!(LeaveOut::default().is_nothing() && !leave_out.is_nothing());
    }
}
