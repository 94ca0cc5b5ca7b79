//! What the database has in one layout, made up for the other one.

use std::collections::BTreeMap;

use niks3_core::{derivation::output_name, realisation::OutputId, wire::PlannedRealisation};

use super::{add, derivations::Derivations};
use crate::nix::{StoreSettings, ValidPath};

/// Adds to each path of a closure the realisations that its database would have if another Nix had
/// built it.
///
/// Only of content-addressed paths: the path of any other output stands in its derivation, and nobody
/// asks for its realisation.
pub(in crate::nix) fn add_other_layout(settings: &StoreSettings, closure: &mut [ValidPath]) {
    let mut derivations = Derivations::new(settings);
    let wanted = closure.iter_mut();
    for path in wanted.filter(|path| path.ca.is_some() && !path.realisations.is_empty()) {
        let by_hash = path.realisations.iter().filter_map(|known| match &known.id {
            OutputId::Derived(derivation, output) => {
                Some(OutputId::Hashed(derivations.hash(derivation)?, output.clone()))
            }
            OutputId::Hashed(..) => None,
        });
        let mut more: Vec<OutputId> = by_hash.collect();
        more.extend(by_deriver(&mut derivations, path));
        for id in more {
            let (dependencies, signatures) = (BTreeMap::new(), Vec::new());
            add(path, PlannedRealisation { id, dependencies, signatures });
        }
    }
}

/// A path's deriver is the resolved derivation, which is what the newer layout names its output by.
///
/// But nobody vouches for a deriver: it is not signed, and a path that is content-addressed may be
/// brought to a store by anyone, with any deriver. What Nix recorded of the path must say the same:
///   1. a user who is not trusted adds a path of their making that names `sudo`'s derivation
///   2. someone pushes it, and the cache signs that it is what that derivation builds
///   3. readers who trust the cache have it for their `sudo`
fn by_deriver(derivations: &mut Derivations<'_>, path: &ValidPath) -> Option<OutputId> {
    let deriver = path.deriver.as_ref()?;
    let output = output_name(deriver, &path.path)?;
    let recorded = |hash| path.realisations.iter().any(|known| known.id == hash);
    let named = |known: &PlannedRealisation| matches!(&known.id, OutputId::Hashed(_, name) if *name == output);
    // Most paths have none that could fit, and reading a file takes longer than looking.
    if !path.realisations.iter().any(named) {
        return None;
    }
    let hash = derivations.hash(deriver)?;
    recorded(OutputId::Hashed(hash, output.clone()))
        .then(|| OutputId::Derived(deriver.clone(), output))
}
