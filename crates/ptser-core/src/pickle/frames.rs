//! The bytes of a pickle, in frames from protocol 4 on, cut where CPython cuts them.

use super::opcode as op;

/// A frame that has grown beyond this ends at the next opcode; text or bytes so long lie in none.
const TARGET: usize = 64 << 10;
/// Shorter ones are no frames.
const MIN: usize = 4;
/// The opcode, and the length of the frame.
const HEADER: usize = 9;

/// A growing pickle.
pub(super) struct Frames {
    out: Vec<u8>,
    framing: bool,
    /// Where the current frame's header stands.
    frame: Option<usize>,
}

impl Frames {
    /// A pickle of about so many bytes.
    pub(super) fn new(protocol: u8, len: usize) -> Self {
        let mut out = Vec::with_capacity(len);
        out.extend([op::PROTO, protocol]);
        Self { out, framing: protocol >= 4, frame: None }
    }

    /// A place where the frame may end: between one value and the next.
    #[inline]
    pub(super) fn boundary(&mut self) {
        if self.frame.is_some_and(|start| self.len_from(start) >= TARGET) {
            self.end();
        }
    }

    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.framing && self.frame.is_none() {
            self.frame = Some(self.out.len());
            self.out.extend([0; HEADER]);
        }
        self.out.extend_from_slice(bytes);
    }

    /// Text or bytes, and what stands in front of them: an opcode and their length.
    pub(super) fn push_large(&mut self, op: u8, len: &[u8], bytes: &[u8]) {
        if !self.framing || bytes.len() < TARGET {
            self.push(&[op]);
            self.push(len);
            self.push(bytes);
            return;
        }
        self.end();
        self.out.push(op);
        self.out.extend_from_slice(len);
        self.out.extend_from_slice(bytes);
    }

    fn len_from(&self, start: usize) -> usize {
        self.out.len().saturating_sub(start).saturating_sub(HEADER)
    }

    fn end(&mut self) {
        let Some(start) = self.frame.take() else { return };
        let len = self.len_from(start);
        let header = start..start.saturating_add(HEADER);
        if len < MIN {
            self.out.drain(header);
        } else if let Some([op, size @ ..]) = self.out.get_mut(header) {
            *op = op::FRAME;
            size.copy_from_slice(&u64::try_from(len).unwrap_or(u64::MAX).to_le_bytes());
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.end();
        self.out
    }
}
