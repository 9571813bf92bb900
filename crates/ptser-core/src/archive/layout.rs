//! Where PyTorch's writer puts the content of records, told from the directory alone: PyTorch's
//! `calculate_storage_offsets`.

use super::directory::{Archive, Compression, LOCAL_HEADER_SIZE, Record};

/// The extra field that pads a local header: its id and its length.
const PADDING_HEADER: u64 = 4;
/// The zip64 extra field: its id and its length, both sizes, the header's own offset.
const ZIP64_HEADER: u64 = 4;
const ZIP64_SIZES: u64 = 16;
const ZIP64_OFFSET: u64 = 8;
/// Sizes and offsets from here on stand in the zip64 extra field.
const BIG: u64 = 0xFFFF_FFFF;
/// What follows the content of a record that is not empty.
const DESCRIPTOR: u64 = 16;
const DESCRIPTOR64: u64 = 24;

impl Archive {
    /// Computes where the content of each record begins, if every record ends where the next one begins, and the last
    /// where the directory does: one that fits may do so by chance. Otherwise local headers will be read.
    pub(crate) fn compute_offsets(&mut self, alignment: u64) {
        if let Some(offsets) = self.offsets(alignment) {
            for (record, offset) in self.records.iter_mut().zip(offsets) {
                record.computed_at = Some(offset);
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
    let header = record.header_at.checked_sub(start)?;
    let (big_size, big_offset) = (record.size >= BIG, header >= BIG);
    let extra = [
        (true, PADDING_HEADER),
        (big_size || big_offset, ZIP64_HEADER),
        (big_size, ZIP64_SIZES),
        (big_offset, ZIP64_OFFSET),
    ];
    let fixed = header.checked_add(LOCAL_HEADER_SIZE)?.checked_add(record.name_len)?;
    let padded = extra
        .into_iter()
        .filter(|(there, _)| *there)
        .try_fold(fixed, |sum, (_, len)| sum.checked_add(len))?
        .checked_next_multiple_of(alignment)?;
    let descriptor = match (record.size, big_size || big_offset) {
        (0, _) => 0,
        (_, false) => DESCRIPTOR,
        (_, true) => DESCRIPTOR64,
    };
    let content = padded.checked_add(start)?;
    Some((content, content.checked_add(record.size)?.checked_add(descriptor)?))
}
