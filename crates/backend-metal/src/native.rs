//! The machine's own device, by `objc2-metal`. The only file here that touches memory of devices.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::OnceLock;

use block2::RcBlock;
use objc2::Message;
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_metal::{
    MTLBuffer, MTLCopyAllDevices, MTLCreateSystemDefaultDevice, MTLDevice, MTLResourceOptions,
};
use ptser_core::Result;

use crate::driver::Driver;
use crate::pages::Pages;
use crate::storage::MetalStorage;

type Device = Retained<ProtocolObject<dyn MTLDevice>>;

/// A device of this machine.
#[derive(Debug, Default)]
pub struct Native(OnceLock<Option<Device>>);

impl Native {
    /// The one that the system prefers.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// One that somebody uses already.
    pub fn of(device: &ProtocolObject<dyn MTLDevice>) -> Self {
        Self(OnceLock::from(Some(device.retain())))
    }

    fn device(&self) -> Option<&ProtocolObject<dyn MTLDevice>> {
        // A program that is not linked with CoreGraphics has no preferred device, and may have others.
        let find = || MTLCreateSystemDefaultDevice().or_else(|| MTLCopyAllDevices().firstObject());
        self.0.get_or_init(find).as_deref()
    }
}

/// A buffer in shared mode.
#[derive(Debug)]
pub struct NativeBuffer {
    raw: Retained<ProtocolObject<dyn MTLBuffer>>,
    /// Of the storage; the buffer may end later.
    nbytes: usize,
}

impl Driver for Native {
    type Buffer = NativeBuffer;

    fn find(&self) -> std::result::Result<(), String> {
        if self.device().is_some() { Ok(()) } else { Err("Metal finds no device".into()) }
    }

    #[expect(unsafe_code, reason = "a slice of a buffer's memory")]
    fn fill(
        &self,
        nbytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<Option<NativeBuffer>> {
        // More than a buffer can have is refused by an assertion where Metal's validation is on.
        let device = self.device().filter(|device| nbytes <= device.maxBufferLength());
        let Some(raw) = device.and_then(|device| {
            device.newBufferWithLength_options(nbytes, MTLResourceOptions::StorageModeShared)
        }) else {
            return Ok(None);
        };
        let start: NonNull<u8> = raw.contents().cast();
        // SAFETY: the buffer has `nbytes` bytes from there on, which Metal clears when it makes one, and which stay in
        // their place while `raw` is held. It has just been made: nobody else knows of it, the device neither.
        fill(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), nbytes) })?;
        Ok(Some(NativeBuffer { raw, nbytes }))
    }

    #[expect(unsafe_code, reason = "memory of others becomes a device's")]
    fn wrap(&self, pages: &Pages<'_>) -> Option<NativeBuffer> {
        let device = self.device().filter(|device| pages.whole() <= device.maxBufferLength())?;
        let start = NonNull::from(pages.bytes()).cast::<c_void>();
        let owner = pages.owner();
        let deallocator = RcBlock::new(move |_: NonNull<c_void>, _: usize| {
            // Called, and then freed, by the buffer that goes, and with it this hold on the pages.
            let _ = &owner;
        });
        // SAFETY: whole pages of a mapping that can be read to their ends. `owner`, which goes with the buffer and not
        // before, keeps them where they are, and may be dropped by any thread, as `Storage` is `Send` and `Sync`. They
        // are mapped for reading alone, so that a device that would write to them fails, and bytes that are lent out
        // do not change.
        let raw = unsafe {
            device.newBufferWithBytesNoCopy_length_options_deallocator(
                start,
                pages.whole(),
                MTLResourceOptions::StorageModeShared,
                Some(&deallocator),
            )
        }?;
        Some(NativeBuffer { raw, nbytes: pages.bytes().len() })
    }

    fn room(&self) -> String {
        let Some(device) = self.device() else { return "there is no device".into() };
        format!(
            "{} bytes are in use of {} that it can use well, and a buffer has {} at most",
            device.currentAllocatedSize(),
            device.recommendedMaxWorkingSetSize(),
            device.maxBufferLength()
        )
    }
}

impl AsRef<[u8]> for NativeBuffer {
    #[expect(unsafe_code, reason = "a slice of a buffer's memory")]
    fn as_ref(&self) -> &[u8] {
        let start: NonNull<u8> = self.raw.contents().cast();
        // SAFETY: the buffer has at least `nbytes` bytes from there on, all of them set, and keeps them while it is
        // held. Nobody writes to them: `fill` is done, pages that were wrapped cannot be written to, and whoever gets
        // the buffer by `MetalStorage::buffer` has promised not to.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.nbytes) }
    }
}

#[expect(unsafe_code, reason = "`objc2-metal` leaves it to its users")]
// SAFETY: any thread may retain and release an object of Objective-C; where a buffer's contents are, and how long they are,
// does not change while it lives; and they are only read here.
unsafe impl Send for NativeBuffer {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Sync for NativeBuffer {}

impl MetalStorage {
    /// Gives the buffer away; `None` where there are no bytes. One that lies in a mapped file cannot be written to,
    /// and may have other bytes of the file behind the storage's.
    pub fn into_buffer(self) -> Option<Retained<ProtocolObject<dyn MTLBuffer>>> {
        self.buffer.map(|buffer| buffer.raw)
    }

    /// The buffer; `None` where there are no bytes.
    ///
    /// # Safety
    /// Neither the host nor the device writes to it while bytes are borrowed that
    /// [`to_host`](ptser_core::DeviceStorage::to_host) gave.
    #[expect(unsafe_code, reason = "writing through it is up to the caller")]
    pub unsafe fn buffer(&self) -> Option<&ProtocolObject<dyn MTLBuffer>> {
        self.buffer.as_ref().map(|buffer| &*buffer.raw)
    }
}
