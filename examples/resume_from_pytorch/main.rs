//! Trains a network in Rust, from where a checkpoint stands, or from scratch where there is none:
//! `cargo run --release --example resume_from_pytorch checkpoint.pt 10` does ten steps and saves, and
//! `python examples/resume_from_pytorch/resume.py checkpoint.pt 10` does the next ten in PyTorch; and the other way round.

mod go_on;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, steps] = arguments.as_slice() else {
        return Err("expected a checkpoint and a number of steps".into());
    };
    let (first, losses) = go_on::go_on(Path::new(path), steps.parse()?)?;
    for (place, loss) in losses.iter().enumerate() {
        println!("step {} loss {loss:.9}", first + place + 1);
    }
    Ok(())
}
