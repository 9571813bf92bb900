"""Times `torch.load`, to compare with.

Run `python torch_load.py FILE [--mmap] [--device DEVICE] [--runs N]` (Linux). Prints
the median time of N loads with `weights_only=True`, and by how much the memory the
process occupies rose above what it was before the first. A device is in use before
that, and has the data when a load is done.
"""

import argparse
import pathlib
import statistics
import time

import torch


def resident(field):
    """Returns VmRSS (now) or VmHWM (the peak) of this process in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file")
    parser.add_argument("--mmap", action="store_true", help="map the file into memory")
    parser.add_argument("--device", help="where to load to (where the file says)")
    parser.add_argument("--runs", type=int, default=5, help="number of loads (5)")
    options = parser.parse_args()

    on_gpu = options.device is not None and options.device.startswith("cuda")
    if on_gpu:
        torch.ones(1, device=options.device)
        torch.cuda.synchronize(options.device)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = resident("VmRSS")
    seconds = []
    for _ in range(options.runs):
        start = time.perf_counter()
        loaded = torch.load(options.file, weights_only=True, mmap=options.mmap, map_location=options.device)
        if on_gpu:
            torch.cuda.synchronize(options.device)
        seconds.append(time.perf_counter() - start)
        del loaded
    print(f"median of {options.runs}: {statistics.median(seconds):.4f} s")
    print(f"peak memory: +{(resident('VmHWM') - before) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
