#![no_main]

#[path = "../s3.rs"]
mod s3;

libfuzzer_sys::fuzz_target!(|data: &[u8]| s3::answers(data));
