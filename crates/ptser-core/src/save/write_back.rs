//! Has the disk write what is there while more is to come: whoever waits for the disk in the end waits less.

use std::fs::File;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// How many bytes are worth the waking of a disk.
const EACH: u64 = 64 << 20;

/// The thread that waits for the disk, from the first bytes on that are worth it.
#[derive(Default)]
pub(super) struct WriteBack {
    written: u64,
    thread: Option<Thread>,
}

struct Thread {
    asked: SyncSender<()>,
    outcome: JoinHandle<io::Result<()>>,
}

impl WriteBack {
    /// Takes note of bytes that have been written to the file.
    pub(super) fn wrote(&mut self, file: &File, bytes: usize) {
        self.written = self.written.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.written < EACH {
            return;
        }
        self.written = 0;
        if self.thread.is_none() {
            // Without a thread the disk has all to do in the end.
            self.thread = Thread::start(file).ok();
        }
        if let Some(thread) = &self.thread {
            // Where it is still busy and asked again already, that includes these bytes.
            let _ = thread.asked.try_send(());
        }
    }

    /// Waits for what the disk was asked to write.
    ///
    /// # Errors
    /// What went wrong there: the system tells it once, so that asking the file again would not.
    pub(super) fn finish(self) -> io::Result<()> {
        let Some(Thread { asked, outcome }) = self.thread else { return Ok(()) };
        drop(asked);
        outcome
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that waits for the disk has ended")))
    }
}

impl Thread {
    fn start(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (asked, asks) = sync_channel::<()>(1);
        let wait = move || asks.into_iter().try_for_each(|()| file.sync_data());
        let outcome = Builder::new().name("ptser write-back".into()).spawn(wait)?;
        Ok(Self { asked, outcome })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_could_not_write_is_told_once_all_is_written() {
        // A pipe has no disk behind it.
        let (_reader, writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        let mut write_back = WriteBack::default();
        write_back.wrote(&pipe, usize::try_from(EACH - 1).unwrap());
        assert!(write_back.thread.is_none(), "a few bytes are not worth a thread");
        for _ in 0..5 {
            write_back.wrote(&pipe, usize::try_from(EACH).unwrap());
        }
        write_back.finish().unwrap_err();
        let file = tempfile::tempfile().unwrap();
        let mut write_back = WriteBack::default();
        write_back.wrote(&file, usize::try_from(EACH).unwrap());
        write_back.finish().unwrap();
    }
}
