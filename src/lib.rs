//! The niks3 client: reads closures from a Nix store and sends them to a cache through its
//! server's presigned URLs.

pub mod api;
pub mod cli;
pub mod commands;
pub mod config;
pub mod gc;
pub mod interrupt;
pub mod nix;
pub mod pack;
pub mod push;
pub mod report;
pub mod text;
