//! Whatever opens is saved in every format and protocol, and opens again with the same in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ptser_core_fuzz::save(input));
