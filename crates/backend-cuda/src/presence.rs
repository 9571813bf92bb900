//! Whether there is a driver to load. Without this question `cudarc` would panic where there is none.

#[expect(unsafe_code, reason = "to load a library runs its initialisers")]
pub(crate) fn check() -> Result<(), String> {
    // SAFETY: the driver's library is loaded and closed again; its initialisers ask nothing of a program, which would
    // run them anyway by using it.
    if unsafe { cudarc::driver::sys::is_culib_present() } {
        Ok(())
    } else {
        Err("no CUDA driver is installed (its library, libcuda or nvcuda, is not found)".into())
    }
}
