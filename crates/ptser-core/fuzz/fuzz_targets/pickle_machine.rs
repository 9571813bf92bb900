//! Any sequence of opcodes, well formed one by one, as a pickle by itself and inside containers: read, looked at,
//! scanned, written in every protocol, and read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|program: ptser_core_fuzz::Program| {
    let pickle = program.pickle();
    ptser_core_fuzz::open(&pickle);
    ptser_core_fuzz::save(&pickle);
});
