#![no_main]

#[path = "../client.rs"]
#[allow(dead_code)]
mod client;

libfuzzer_sys::fuzz_target!(|data: &[u8]| client::settings(data));
