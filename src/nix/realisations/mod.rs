//! Which outputs of which derivations the paths of a closure are.
//!
//! Nix has them in its database where content-addressed derivations are in use: up to 2.34 in one
//! table, from 2.35 on in another. A cache serves readers of both kinds, so what one table has is made up
//! for the other layout, as far as the derivation is still in the store.
//!
//! Nothing here fails a push: what cannot be read is left out.

mod derivations;
mod other_layout;
mod signatures;
mod tables;

use niks3_core::{
    limits::{
        MAX_DEPENDENCIES_PER_REALISATION, MAX_REALISATIONS_PER_PATH, MAX_SIGNATURES_PER_PATH,
    },
    wire::PlannedRealisation,
};

use super::ValidPath;

pub(super) use other_layout::add_other_layout;
pub(super) use tables::read;

/// Adds one, unless it is there or is more than a server takes.
fn add(path: &mut ValidPath, mut realisation: PlannedRealisation) {
    let known = path.realisations.iter().any(|known| known.id == realisation.id);
    // Without its dependencies it would be another statement, which its signatures do not sign.
    let fits = realisation.dependencies.len() <= MAX_DEPENDENCIES_PER_REALISATION
        && path.realisations.len() < MAX_REALISATIONS_PER_PATH;
    if fits && !known {
        realisation.signatures.truncate(MAX_SIGNATURES_PER_PATH);
        path.realisations.push(realisation);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use niks3_core::hash::NarHash;

    use super::*;

    fn path() -> ValidPath {
        ValidPath {
            path: "00000000000000000000000000000000-a".parse().unwrap(),
            nar_hash: NarHash::new([0; 32]),
            nar_size: 112,
            references: Vec::new(),
            deriver: None,
            ca: None,
            signatures: Vec::new(),
            realisations: Vec::new(),
        }
    }

    fn realisation(number: usize) -> PlannedRealisation {
        PlannedRealisation {
            id: format!("sha256:{number:064x}!out").parse().unwrap(),
            dependencies: BTreeMap::new(),
            signatures: Vec::new(),
        }
    }

    #[test]
    fn no_more_is_taken_than_a_server_takes() {
        let mut path = path();
        for number in [0, 0].into_iter().chain(0..MAX_REALISATIONS_PER_PATH + 1) {
            add(&mut path, realisation(number));
        }
        assert_eq!(path.realisations.len(), MAX_REALISATIONS_PER_PATH);
        path.realisations.clear();
        let mut large = realisation(0);
        let used = path.path.clone();
        let dependency = |number| (realisation(number).id, used.clone());
        large.dependencies = (1..=MAX_DEPENDENCIES_PER_REALISATION).map(dependency).collect();
        add(&mut path, large.clone());
        large.id = realisation(1).id;
        large.dependencies.extend([dependency(0)]);
        add(&mut path, large);
        assert_eq!(path.realisations.len(), 1);
        let mut signed = realisation(2);
        let sig = format!("{}==", "A".repeat(86));
        let signature = |number| format!("k-{number}:{sig}").parse().unwrap();
        signed.signatures = (0..=MAX_SIGNATURES_PER_PATH).map(signature).collect();
        add(&mut path, signed);
        assert_eq!(path.realisations[1].signatures.len(), MAX_SIGNATURES_PER_PATH);
    }
}
