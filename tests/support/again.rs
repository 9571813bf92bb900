//! Saves what a file held in every format and protocol, and opens that: the same is in it, and saved once more it is
//! the same file.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use ptser::{Checkpoint, ErrorKind, Format, LoadOptions, SaveOptions};

use crate::look::policies;
use crate::same::same;

/// What is written: the format, the protocol, and whether storages are cut to what is viewed.
const WAYS: [(Format, u8, bool); 7] = [
    (Format::Zip, 2, false),
    (Format::Zip, 3, false),
    (Format::Zip, 4, true),
    (Format::Zip, 5, false),
    (Format::Legacy, 2, false),
    (Format::Legacy, 4, false),
    (Format::Legacy, 5, true),
];

/// Saves what opens in every way, and finds the same in what was saved. What cannot be saved is no error.
pub(crate) fn save_every_way(file: &[u8]) {
    let [strict, _, inert, _] = policies();
    for options in [strict, inert] {
        let again = options.from_bytes(file.to_vec()).map(|checkpoint| again(&checkpoint, &options));
        if let Ok(Err(why)) = again {
            panic!("{why}");
        }
    }
}

/// Saves a checkpoint that `options` opened, in every way.
///
/// # Errors
/// Where what was saved does not open with the same options, or holds something else.
fn again(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<(), String> {
    for (format, protocol, compact) in WAYS {
        again_as(checkpoint, options, format, protocol, compact)
            .map_err(|why| format!("as {format}, protocol {protocol}, compact {compact}: {why}"))?;
    }
    Ok(())
}

fn again_as(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    format: Format,
    protocol: u8,
    compact: bool,
) -> Result<(), String> {
    let with = |options: SaveOptions| options.format(format).and_then(|options| options.protocol(protocol));
    let saving = with(SaveOptions::new()).map_err(|error| error.to_string())?.compact(compact);
    let Ok(saved) = saving.to_bytes(checkpoint) else { return Ok(()) };
    let reopened = match options.from_bytes(saved.clone()) {
        Ok(reopened) => reopened,
        // Spelled out in an old protocol, values take more bytes.
        Err(error) if error.kind() == ErrorKind::LimitExceeded => return Ok(()),
        // The classes of a program are allowed in a program only.
        Err(error) if error.kind() == ErrorKind::Refused && checkpoint.format() == Format::TorchScript => {
            return Ok(());
        }
        // An opcode from protocol 4 on, and before that a global, which PyTorch's policy does not list.
        Err(error) if protocol < 4 && error.to_string().contains("policy: builtins.frozenset;") => {
            return Ok(());
        }
        Err(error) => return Err(format!("it does not open: {error}")),
    };
    same(checkpoint, &reopened)?;
    let save_again = |file: &[u8]| -> Result<Vec<u8>, String> {
        let reopened = options.from_bytes(file.to_vec()).map_err(|error| error.to_string())?;
        saving.to_bytes(&reopened).map_err(|error| error.to_string())
    };
    let once_more = save_again(&saved)?;
    // What is set twice under one key stands where the first stood, and has the number of the second at first.
    if once_more == saved || once_more == save_again(&once_more)? {
        return Ok(());
    }
    let at = saved.iter().zip(&once_more).position(|(one, other)| one != other);
    Err(format!("saved once more, byte {at:?} of {} and {} differs", saved.len(), once_more.len()))
}
