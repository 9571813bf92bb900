"""Measures one work of PyTorch's, to compare with.

Run `python peer.py WORK ROUNDS FILE OUT` (Linux), where WORK is one of those below. Prints the seconds that it took, by
how many MiB the most memory exceeded that before, by how many anonymous memory had grown in the end, and the number of
tensors. Where there are several rounds, each but the first has a line of the kind, with the memory of the first: see
sample.rs. `python peer.py version` prints PyTorch's version.
"""

import os
import pathlib
import sys
import time

import torch

PROBE = "probe"


def mib(field):
    """Returns a field of this process's status: VmRSS (now), VmHWM (the peak), RssAnon."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def measure(work, out=None, rounds=1):
    """Prints what `work` takes, which returns the number of tensors, and what is kept until memory is measured."""
    seconds, peak, anonymous, tensors = once(work)
    if rounds == 1:
        print(seconds, peak, anonymous, tensors)
    for _ in range(1, rounds):
        os.remove(out)
        os.sync()
        print(once(work)[0], peak, anonymous, tensors)


def once(work):
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before, anonymous = mib("VmRSS"), mib("RssAnon")
    start = time.perf_counter()
    tensors, _kept = work()
    seconds = time.perf_counter() - start
    return seconds, mib("VmHWM") - before, mib("RssAnon") - anonymous, tensors


def loaded(file, **options):
    tensors = torch.load(file, weights_only=True, **options)
    return len(tensors), tensors


def one_tensor(file):
    tensors = torch.load(file, weights_only=True, mmap=True)
    return len(tensors), tensors[PROBE].clone()


def save(file, out, rounds):
    tensors = torch.load(file, weights_only=True)
    measure(lambda: (len(tensors), torch.save(tensors, out)), out, rounds)


def save_without_crc(file, out, rounds):
    torch.serialization.set_crc32_options(False)
    save(file, out, rounds)


def to_safetensors(file, out, rounds):
    import safetensors.torch

    def work():
        tensors = torch.load(file, weights_only=True)
        return len(tensors), safetensors.torch.save_file(tensors, out)

    measure(work, out, rounds)


WORKS = {
    "load": lambda file, *_: measure(lambda: loaded(file)),
    "views": lambda file, *_: measure(lambda: loaded(file, mmap=True)),
    "metadata": lambda file, *_: measure(lambda: loaded(file, map_location="meta")),
    "one-tensor": lambda file, *_: measure(lambda: one_tensor(file)),
    "save": save,
    "save-without-crc": save_without_crc,
    "to-safetensors": to_safetensors,
}

if __name__ == "__main__":
    if sys.argv[1:] == ["version"]:
        print(torch.__version__)
    elif len(sys.argv) == 5 and sys.argv[1] in WORKS:
        work, rounds, file, out = sys.argv[1:]
        WORKS[work](file, out, int(rounds))
    else:
        sys.exit(__doc__)
