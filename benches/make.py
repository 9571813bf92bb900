"""Makes the checkpoints that the benchmarks load.

Run `python make.py DIR` (needs PyTorch; about 1.1 GB of disk and of memory). Writes into DIR

* `many.pt`: 20,000 float32 tensors of 1 to 64 elements, named as in a state dict;
* `large.pt`: 300 float32 tensors of 1 KiB to 34 MiB, their sizes spread evenly
  on a logarithmic scale, 1 GiB in all.
"""

import pathlib
import random
import sys

import torch

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
ROW = 64  # elements
LARGE_SEED = 25  # one for which the sizes come to 1 GiB


def many():
    numbers = random.Random(0)
    torch.manual_seed(0)
    parts = ["attention.query", "attention.key", "attention.value", "attention.output", "mlp.up", "mlp.down", "norm1",
             "norm2", "scale", "gate"]
    names = [f"model.layers.{layer}.{part}.{kind}" for layer in range(1000) for part in parts
             for kind in ["weight", "bias"]]
    return {name: torch.randn(numbers.randint(1, 64)) for name in names}


def large():
    torch.manual_seed(0)
    return {f"blocks.{i}.weight": torch.randn(rows, ROW) for i, rows in enumerate(large_rows(LARGE_SEED))}


def large_rows(seed):
    """Returns the number of rows of each tensor of `large`."""
    numbers = random.Random(seed)
    sizes = [KIB * (34 * MIB / KIB) ** numbers.random() for _ in range(300)]
    return [round(size / (4 * ROW)) for size in sizes]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    total = sum(large_rows(LARGE_SEED)) * 4 * ROW
    assert abs(total - GIB) <= GIB / 100, f"large.pt would hold {total} bytes"
    for name, make in [("many.pt", many), ("large.pt", large)]:
        torch.save(make(), folder / name)
        print(folder / name, (folder / name).stat().st_size)


if __name__ == "__main__":
    main()
