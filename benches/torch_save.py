"""Times `torch.save`, to compare with.

Run `python torch_save.py DIR` (Linux). Loads `DIR/data.pt`, saves it as
`DIR/saved`, and prints the seconds that took, and by how many MiB the memory the
process occupies rose meanwhile.
"""

import pathlib
import sys
import time

import torch


def resident(field):
    """Returns VmRSS (now) or VmHWM (the peak) of this process in MiB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    tensors = torch.load(folder / "data.pt", weights_only=True)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = resident("VmRSS")
    start = time.perf_counter()
    torch.save(tensors, folder / "saved")
    print(time.perf_counter() - start, resident("VmHWM") - before)


if __name__ == "__main__":
    main()
