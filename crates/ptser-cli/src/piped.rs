//! Writes in a thread of its own, while what comes next is read. Knows no format.

use std::io::{self, Write};
use std::panic::resume_unwind;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

/// What is written at a time.
const PIECE: usize = 1 << 20;
/// How many of them may wait.
const WAITING: usize = 4;

/// Writes all that `fill` gives to a sink meanwhile. Where the sink fails, that is the error.
pub(crate) fn write_beside(
    mut sink: impl Write + Send,
    fill: impl FnOnce(&mut Pipe) -> ptser::Result<()>,
) -> ptser::Result<()> {
    let (full, pieces) = mpsc::sync_channel::<Vec<u8>>(WAITING);
    let (back, spare) = mpsc::channel();
    thread::scope(|scope| {
        let write = move || {
            for mut piece in pieces {
                sink.write_all(&piece)?;
                piece.clear();
                // Nobody wants it when all is read.
                let _ = back.send(piece);
            }
            sink.flush()
        };
        let writer = thread::Builder::new().spawn_scoped(scope, write)?;
        let mut pipe = Pipe { piece: Vec::new(), full, spare };
        let filled = fill(&mut pipe).and_then(|()| Ok(pipe.flush()?));
        // The last piece is the last.
        drop(pipe);
        match writer.join() {
            Ok(written) => written.map_err(ptser::Error::from).and(filled),
            Err(panic) => resume_unwind(panic),
        }
    })
}

/// Takes what is to be written. It fails where the sink has, which says more.
pub(crate) struct Pipe {
    piece: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (now, _) = bytes.split_at(bytes.len().min(PIECE - self.piece.len()));
        self.piece.extend_from_slice(now);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let next = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        let piece = std::mem::replace(&mut self.piece, next);
        self.full.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_arrives_in_order() {
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 9 * PIECE + 5] {
            let bytes: Vec<u8> = (0..len).map(|place| (place % 251) as u8).collect();
            for step in [777, 3 * PIECE] {
                let mut written = Vec::new();
                write_beside(&mut written, |pipe| {
                    bytes.chunks(step).try_for_each(|chunk| Ok(pipe.write_all(chunk)?))
                })
                .unwrap();
                assert!(written == bytes, "{len} {step}");
            }
        }
    }

    #[test]
    fn the_sinks_error_is_told_and_the_readers_where_there_is_no_other() {
        let error = write_beside(Full, |pipe| {
            let bytes = vec![0; PIECE];
            (0..99).try_for_each(|_| Ok(pipe.write_all(&bytes)?))
        });
        assert!(error.unwrap_err().to_string().contains("no storage space"));
        let error = write_beside(io::sink(), |_| Err(ptser::Error::misuse("unreadable")));
        assert!(error.unwrap_err().to_string().contains("unreadable"));
    }
}
