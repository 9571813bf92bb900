//! The names of the files in a checkpoint folder, which tell the step and the metric.

use std::path::{Path, PathBuf};

/// A file of a checkpoint folder, as its name tells it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Saved {
    /// The step that it was saved at.
    pub step: u64,
    /// The metric that it was saved with.
    pub metric: Option<f64>,
    /// Where it lies.
    pub path: PathBuf,
}

impl Saved {
    /// The file of a step: `step-00000120.pt`, or `step-00000120-metric-0.25.pt`.
    pub(super) fn new(folder: &Path, step: u64, metric: Option<f64>) -> Self {
        let metric_part = metric.map_or_else(String::new, |metric| format!("-metric-{metric:?}"));
        Self { step, metric, path: folder.join(format!("step-{step:08}{metric_part}.pt")) }
    }

    /// What a name tells, if it is one that this folder gives.
    pub(super) fn read(folder: &Path, name: &str) -> Option<Self> {
        let text = name.strip_prefix("step-")?.strip_suffix(".pt")?;
        let (step, metric) = match text.split_once("-metric-") {
            Some((step, metric)) => (step, Some(metric.parse().ok()?)),
            None => (text, None),
        };
        let saved = Self::new(folder, step.parse().ok()?, metric);
        // Names of other making, such as `step-+1.pt`, are other people's files.
        (saved.path.file_name()? == name).then_some(saved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_step_and_metric() {
        for (step, metric, name) in [
            (0, None, "step-00000000.pt"),
            (1_234_567_890, None, "step-1234567890.pt"),
            (u64::MAX, Some(-0.5), "step-18446744073709551615-metric--0.5.pt"),
            (7, Some(1e-7), "step-00000007-metric-1e-7.pt"),
            (7, Some(f64::MAX), "step-00000007-metric-1.7976931348623157e308.pt"),
            (7, Some(f64::INFINITY), "step-00000007-metric-inf.pt"),
            (7, Some(2.0), "step-00000007-metric-2.0.pt"),
        ] {
            let saved = Saved::new(Path::new("runs"), step, metric);
            assert_eq!(saved.path, Path::new("runs").join(name));
            assert_eq!(Saved::read(Path::new("runs"), name), Some(saved));
        }
        let nan = Saved::read(Path::new(""), "step-00000007-metric-NaN.pt").unwrap();
        assert!(nan.metric.unwrap().is_nan());
    }

    #[test]
    fn other_files_are_nobodys() {
        for name in [
            "",
            "step-.pt",
            "step-1.pt",
            "step-+0000001.pt",
            "step-00000001.pth",
            "step-00000001-metric-.pt",
            "step-00000001-metric-0.50.pt",
            "step-00000001-metric-x.pt",
            "step-99999999999999999999.pt",
            ".step-00000001.pt.ptser-tmp",
            "model.pt",
        ] {
            assert_eq!(Saved::read(Path::new(""), name), None, "{name}");
        }
    }
}
