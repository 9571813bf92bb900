//! What has to end soon, whatever a file asks for.

use std::time::{Duration, Instant};

/// Runs what takes a second at most where work is in proportion to the file, and much longer where it is not. Of three
/// times one has to be swift: a machine may stand still for a while.
pub(crate) fn swift<T>(what: &str, mut run: impl FnMut() -> T) -> T {
    const SLOW: Duration = Duration::from_secs(20);
    let mut took = Duration::ZERO;
    for _ in 0..3 {
        let started = Instant::now();
        let outcome = run();
        took = started.elapsed();
        if took < SLOW {
            return outcome;
        }
    }
    panic!("{what} took {took:?}, and longer than {SLOW:?} twice before");
}
