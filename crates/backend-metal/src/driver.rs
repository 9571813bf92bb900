//! What the backend asks of Metal, so that another can stand in its place. Knows no checkpoint.

use ptser_core::Result;

use crate::pages::Pages;

/// A device whose buffers lie in memory that the host shares.
pub trait Driver: Send + Sync + 'static {
    /// Memory of the device; freed when it is dropped.
    type Buffer: AsRef<[u8]> + Send + Sync + 'static;

    /// Looks for the device, or says why there is none.
    ///
    /// # Errors
    /// The reason, to be read by people.
    fn find(&self) -> std::result::Result<(), String>;

    /// Takes memory, and has it filled before anyone else sees it. `None` where the device has none.
    ///
    /// # Errors
    /// Those of `fill`; the memory is freed then.
    fn fill(
        &self,
        nbytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<Option<Self::Buffer>>;

    /// Makes a buffer of pages where they lie, and keeps them there. `None` where the device refuses.
    fn wrap(&self, pages: &Pages<'_>) -> Option<Self::Buffer>;

    /// How much there is, in words for an error.
    fn room(&self) -> String;
}
