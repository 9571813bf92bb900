//! Where PyTorch's writer puts the content of records, told from the directory alone: PyTorch's
//! `calculate_storage_offsets`.

use super::directory::Archive;
use super::record::{Compression, Record};
use super::slot::Slot;

impl Archive {
    /// Computes where the content of each record begins, if every record ends where the next one begins, and the last
    /// where the directory does: one that fits may do so by chance. Otherwise local headers will be read.
    pub(crate) fn compute_offsets(&mut self, alignment: u64) {
        if let Some(offsets) = self.offsets(alignment) {
            for (record, offset) in self.records.iter_mut().zip(offsets) {
                record.note_computed(offset);
            }
        }
    }

    /// The first byte of the content of each record.
    fn offsets(&self, alignment: u64) -> Option<Vec<u64>> {
        let laid_out: Vec<(u64, u64)> = self
            .records
            .iter()
            .map(|record| laid_out(record, self.start, alignment))
            .collect::<Option<_>>()?;
        let mut spans: Vec<(u64, u64)> =
            self.records.iter().zip(&laid_out).map(|(record, (_, end))| (record.header_at, *end)).collect();
        spans.sort_unstable();
        let next = spans.iter().skip(1).map(|(header, _)| *header).chain([self.directory_at]);
        let fits = spans.iter().zip(next).all(|((_, end), next)| *end == next);
        let begins = spans.first().is_some_and(|(header, _)| *header == self.start);
        (fits && begins).then(|| laid_out.into_iter().map(|(content, _)| content).collect())
    }
}

/// The first byte of the content of a stored record, and the first byte behind it and its descriptor.
fn laid_out(record: &Record, start: u64, alignment: u64) -> Option<(u64, u64)> {
    if record.compression != Compression::Stored {
        return None;
    }
    // The writer counts from the archive's first byte.
    let header_at = record.header_at.checked_sub(start)?;
    let slot = Slot { header_at, name_len: record.name_len.into(), size: record.size };
    Some((slot.data_at(alignment)?.checked_add(start)?, slot.end(alignment)?.checked_add(start)?))
}
