//! A bar on standard error, if that is a terminal, once a second has passed.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bytes done, of so many.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    shown: bool,
}

const PATIENCE: Duration = Duration::from_secs(1);

impl Progress {
    /// Of work that is called `hashing`, `writing`.
    pub(crate) fn new(what: &str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let template =
            format!("{what} {{bar:30}} {{decimal_bytes}} of {{decimal_total_bytes}}, {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now(), shown: false }
    }

    /// So many bytes more.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.bar.inc(bytes);
        let more = self.bar.length().is_some_and(|length| self.bar.position() < length);
        if more && !self.shown && self.started.elapsed() > PATIENCE {
            self.shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes as the bar counts them.
pub(crate) fn nbytes(nbytes: usize) -> u64 {
    u64::try_from(nbytes).unwrap_or(u64::MAX)
}
