//! A model of the protocol between uploads and garbage collection, explored exhaustively with
//! [`stateright`]. `docs/gc-model.md` says what is in it, what is left out and why.
//!
//! [`State`] is the database, the bucket, the requests on their way, and what processes have in memory.
//! [`Action`] is one transaction, one request that takes effect, or one time that comes. What may happen
//! in which order is not said anywhere: whatever its conditions allow may happen next.
//!
//! **Where transactions are atomic.** An action that stands for a transaction happens at once. For what
//! decides who lives, that is the gate's doing: condemning, claiming, expiring and giving back run alone in it,
//! so no plan, URL, report, commit or release is half done while they look or act. Two of the latter may
//! run side by side, since they hold it shared. They only add reasons to live, or take away their own
//! and note it, and rows that both write are locked: their effects do not depend on the order of statements
//! between them. Deleting rows needs no gate: they are claimed, and nobody else touches a claimed row.

mod action;
mod bucket;
mod collect;
mod commit;
pub mod invariants;
mod model;
mod mutation;
mod push;
pub mod reached;
mod scenario;
pub mod scenarios;
mod set;
mod settle;
mod state;
mod tell;

pub use action::Action;
pub use model::{Asked, Niks3};
pub use mutation::{Mutation, Mutations};
pub use scenario::{Contents, Nar, Planned, Push, Scenario, Text};
pub use set::{SLOTS, Set, Slot};
pub use state::{Collector, Stage, State, Upload};
