//! However the bytes come, in whatever pieces, and mapped or not, the outcome is the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ptser_core_fuzz::read_in_pieces(input));
