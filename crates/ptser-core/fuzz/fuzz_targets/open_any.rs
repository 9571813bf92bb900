//! Any bytes, opened under every policy: a value or one typed error; all that opens is looked at, and scanned.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ptser_core_fuzz::open(input));
