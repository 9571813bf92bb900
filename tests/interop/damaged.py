"""damaged.py FOLDER: what PyTorch makes of damaged files, as weights only.

For each file that a line of `damaged.jsonl` in the folder names, a line of `loaded.jsonl`: `contents`, the description
of `describe.py`; or `error`, why it does not load. A process of its own loads them, for some end it.
"""

import ctypes
import json
import os
import pathlib
import resource
import signal
import sys

import torch

import describe

MEMORY, SECONDS = 4 << 30, 20
LIBC, M_PERTURB = ctypes.CDLL(None), -6


def load(path):
    """Loads it twice, over memory that held something else before: what differs was never written."""
    once, again = load_over(0xA5, path), load_over(0x5A, path)
    return once if once == again else {"error": "PyTorch finds something else each time"}


def load_over(byte, path):
    if hasattr(LIBC, "mallopt"):
        LIBC.mallopt(M_PERTURB, byte)
    signal.alarm(SECONDS)
    try:
        with path.open("rb") as file:
            value = torch.load(file, map_location="cpu", weights_only=True)
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"[:3000]}
    try:
        return {"contents": describe.describe("weights_only", value)}
    except BaseException as error:
        return {"error": f"loaded, but not described: {type(error).__name__}: {error}"[:3000]}
    finally:
        signal.alarm(0)


def too_long(*_):
    raise TimeoutError("it takes too long")


def child(folder, files, out):
    signal.signal(signal.SIGALRM, too_long)
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for file in files:
        out.write(json.dumps(load(folder / file)) + "\n")
        out.flush()


def main(folder):
    describe.prepare()
    folder = pathlib.Path(folder)
    files = [json.loads(line)["file"] for line in (folder / "damaged.jsonl").read_text().splitlines()]
    told = folder / "loaded.jsonl"
    told.touch()
    done = 0
    while done < len(files):
        if os.fork() == 0:
            with told.open("a") as out:
                child(folder, files[done:], out)
            os._exit(0)
        _, status = os.wait()
        lines = told.read_text()
        if not lines.endswith("\n") and lines:
            lines = lines[:lines.rindex("\n") + 1] if "\n" in lines else ""
            told.write_text(lines)
        done = lines.count("\n")
        if status != 0:
            with told.open("a") as out:
                out.write(json.dumps({"error": f"the process ends with {status}"}) + "\n")
            done += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
