//! Random walks through a scenario with everything in it, of which there are too many states to look at all.

use niks3_model::{Action, Mutation, Niks3, scenarios};
use stateright::Model as _;

/// Steps of one walk: enough for all pushes, and several collections between them.
const STEPS: usize = 300;

/// A reproducible sequence: Knuth's MMIX generator.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % sides as u64) as usize
    }
}

/// Walks `walks` times from the beginning. Answers the first property that was broken, and the way there.
fn walk(model: &Niks3, walks: u64) -> Option<(&'static str, Vec<Action>)> {
    let properties = model.properties();
    let mut actions = Vec::new();
    for seed in 0..walks {
        let mut dice = Dice(seed);
        let (mut state, mut way) = (model.beginning(), Vec::new());
        for _ in 0..STEPS {
            actions.clear();
            model.actions(&state, &mut actions);
            // All steps are as likely, but giving up: or hardly any push would come to its end.
            let rarely = dice.roll(16) == 0;
            actions.retain(|action| rarely || !matches!(action, Action::Fail(_)));
            let next = (0..64).find_map(|_| {
                let action = *actions.get(dice.roll(actions.len().max(1)))?;
                Some((action, model.step(&state, action)?))
            });
            let Some((action, next)) = next else { break };
            way.push(action);
            state = next;
            let broken = properties.iter().find(|property| !(property.condition)(model, &state));
            if let Some(broken) = broken {
                return Some((broken.name, way));
            }
        }
    }
    None
}

#[test]
fn everything_may_happen_at_once() {
    let broken = walk(&Niks3::new(scenarios::everything()), 10_000);
    assert_eq!(broken, None);
}

#[test]
#[ignore = "long"]
fn everything_may_happen_at_once_and_often() {
    let broken = walk(&Niks3::new(scenarios::everything()), 200_000);
    assert_eq!(broken, None);
}

/// Walks come to where accidents are.
#[test]
fn walks_find_mutations() {
    for rule in [
        Mutation::ForgetUnanswered,
        Mutation::UnfencedDelete,
        Mutation::RowsWithoutToken,
        Mutation::NoteAfterEnd,
        Mutation::TakeRealisation,
    ] {
        let found = walk(&Niks3::without(scenarios::everything(), &[rule]), 2_000);
        println!("{rule:?}: {:?}", found.as_ref().map(|(broken, way)| (broken, way.len())));
        assert!(found.is_some(), "walks do not find {rule:?}");
    }
}
