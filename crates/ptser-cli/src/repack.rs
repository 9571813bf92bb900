//! `ptser repack`: the same object, written again.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ptser::{ByteOrder, Checkpoint, Format, SaveOptions, Storage};

use crate::human;
use crate::open::Policy;
use crate::output::Failure;
use crate::tally::Tally;
use crate::written::{ALIGNMENTS, Container, Outputs};

/// Write the same object again: byte for byte the same file where torch 2.15 wrote it.
///
/// Tar archives, plain pickles and safetensors files become zip archives. What is not given stays as it is in IN. OUT may
/// be IN: it is replaced when all is written.
#[derive(Args)]
#[command(after_help = "Example: ptser repack model.pt aligned.pt --alignment 4096 --compact")]
pub(crate) struct Repack {
    /// The checkpoint
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// The file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,

    #[command(flatten)]
    policy: Policy,

    /// The container
    #[arg(long, value_name = "NAME")]
    format: Option<Container>,

    /// The pickle protocol; PyTorch's weights-only loading reads 2 alone
    #[arg(long, value_name = "2..5", value_parser = clap::value_parser!(u8).range(2..=5))]
    protocol: Option<u8>,

    /// Begin the data of each record at a multiple of so many bytes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(ALIGNMENTS))]
    alignment: Option<u64>,

    /// Write zeros in place of CRCs
    #[arg(long)]
    no_crc32: bool,

    /// Leave out bytes that no tensor views
    #[arg(long)]
    compact: bool,

    /// The byte order of the data
    #[arg(long, value_name = "ORDER", value_parser = byte_orders())]
    byte_order: Option<ByteOrder>,
}

impl Repack {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let Self { input, output, policy, .. } = self;
        let checkpoint = policy.options().open(input)?;
        let size = fs::metadata(input).map_or(0, |metadata| metadata.len());
        let options = self.options(&checkpoint)?.root_folder_of(output);
        let options = options.map_err(|error| error.in_file(output))?;
        let total = checkpoint.storages().iter().map(Storage::nbytes).fold(0, u64::saturating_add);
        let mut outputs = Outputs::new(input, total);
        outputs.add(output, |sink| options.write(sink, &checkpoint))?;
        outputs.publish(Tally::of(&checkpoint).tensors, &behind(&checkpoint, size))
    }

    fn options(&self, checkpoint: &Checkpoint) -> Result<SaveOptions, Failure> {
        // A new option must be used here, or this line breaks.
        let Self { input, output: _, policy: _, format, protocol, alignment, no_crc32, compact, byte_order } =
            self;
        if checkpoint.format() == Format::TorchScript {
            return Err(Failure::file(
                input,
                "not supported: a TorchScript program, whose code is no part of a checkpoint; `ptser convert` takes its \
                 tensors out",
            ));
        }
        let legacy = match format {
            Some(format) => *format == Container::Legacy,
            None => checkpoint.format() == Format::Legacy,
        };
        if legacy && (alignment.is_some() || *no_crc32 || byte_order.is_some()) {
            return Err(Failure::Usage(
                "--alignment, --no-crc32 and --byte-order are for archives; with them goes --format zip"
                    .into(),
            ));
        }
        let mut options = SaveOptions::like(checkpoint)?.compact(*compact);
        if let Some(format) = format {
            options = options.format((*format).into())?;
        }
        if let Some(protocol) = protocol {
            options = options.protocol(*protocol)?;
        }
        if let Some(alignment) = alignment {
            options = options.alignment(*alignment);
        }
        if let Some(order) = byte_order {
            options = options.byte_order(*order);
        }
        if *no_crc32 {
            options = options.crc32(false);
        }
        Ok(options)
    }
}

/// Says that a stream goes on: torch.save can be called on one file several times.
fn behind(checkpoint: &Checkpoint, size: u64) -> String {
    match checkpoint.end_offset().map_or(0, |end| size.saturating_sub(end)) {
        0 => String::new(),
        more => format!("; {} behind the first object left out", human::bytes(more)),
    }
}

fn byte_orders() -> impl TypedValueParser<Value = ByteOrder> {
    let orders = [ByteOrder::Little, ByteOrder::Big];
    PossibleValuesParser::new(orders.map(ByteOrder::name))
        .map(move |name| if name == ByteOrder::Big.name() { ByteOrder::Big } else { ByteOrder::Little })
}
