//! The twin of `native` on systems without Metal: there is no device, and there are no buffers.

use std::convert::Infallible;

use ptser_core::Result;

use crate::driver::Driver;
use crate::pages::Pages;

/// The device of this machine, which it does not have.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

impl Native {
    /// It is looked for in vain.
    pub const fn new() -> Self {
        Self
    }
}

/// A buffer that cannot be.
#[derive(Debug)]
pub struct NativeBuffer(Infallible);

impl AsRef<[u8]> for NativeBuffer {
    fn as_ref(&self) -> &[u8] {
        match self.0 {}
    }
}

impl Driver for Native {
    type Buffer = NativeBuffer;

    fn find(&self) -> std::result::Result<(), String> {
        Err(format!("Metal is part of macOS, and this program was built for {}", std::env::consts::OS))
    }

    fn fill(
        &self,
        _nbytes: usize,
        _fill: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<Option<NativeBuffer>> {
        Ok(None)
    }

    fn wrap(&self, _pages: &Pages<'_>) -> Option<NativeBuffer> {
        None
    }

    fn room(&self) -> String {
        "there is no device".into()
    }
}
