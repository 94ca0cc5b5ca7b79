//! A model of the protocol between uploads and garbage collection, to be explored exhaustively.
mod action;
pub mod invariants;
mod model;
mod mutation;
mod push;
mod collect;
pub mod reached;
mod scenario;
pub mod scenarios;
mod set;
mod settle;
mod state;

pub use action::Action;
pub use model::{Asked, Niks3};
pub use mutation::{Mutation, Mutations};
pub use scenario::{Contents, Nar, Planned, Push, Scenario, Text};
pub use set::{SLOTS, Set, Slot};
pub use state::{Collector, Stage, State, Upload};
