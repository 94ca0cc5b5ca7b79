//! One file per resource: handlers unpack, call and answer. Knows nothing of SQL.

pub mod gc;
pub mod health;
pub mod json;
pub mod uploads;
