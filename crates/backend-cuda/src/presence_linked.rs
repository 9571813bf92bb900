//! The twin of `presence` for programs that are linked with the driver: they do not start without one.

#[expect(clippy::unnecessary_wraps, reason = "its twin has an answer")]
pub(crate) fn check() -> Result<(), String> {
    Ok(())
}
