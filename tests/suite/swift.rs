//! What has to end soon, whatever a file asks for.

use std::time::{Duration, Instant};

/// For what takes a second at most where work is in proportion to the file, and much longer where it is not.
pub(crate) const SLOW: Duration = Duration::from_secs(20);

/// Runs what has to end within a while. Of three times one has to: a machine may stand still.
pub(crate) fn swift<T>(within: Duration, what: &str, mut run: impl FnMut() -> T) -> T {
    let mut took = Duration::ZERO;
    for _ in 0..3 {
        let started = Instant::now();
        let outcome = run();
        took = started.elapsed();
        if took < within {
            return outcome;
        }
    }
    panic!("{what} took {took:?}, and longer than {within:?} twice before");
}
