#!/usr/bin/env python3
"""Gathers the seeds of the fuzz targets from the fixtures: every small file, and the pickles of archives by themselves.

    python3 seeds.py FOLDER

writes FOLDER/TARGET/ for each target that takes bytes. `pickle_machine` takes programs and begins with none.
"""

import hashlib
import pathlib
import sys
import zipfile

TARGETS = ["open_any", "round_trip", "read_sizes_do_not_matter"]
FIXTURES = pathlib.Path(__file__).resolve().parents[3] / "tests" / "fixtures"
LARGEST = 16 << 10


def seeds():
    for path in sorted(FIXTURES.rglob("*")):
        if not path.is_file() or path.suffix in {".py", ".json", ".md"}:
            continue
        if path.stat().st_size <= LARGEST:
            yield path.read_bytes()
        try:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith("/data.pkl") and archive.getinfo(name).file_size <= LARGEST:
                        yield archive.read(name)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
            pass


def main(folder):
    found = {hashlib.sha1(seed).hexdigest(): seed for seed in seeds()}
    for target in TARGETS:
        at = pathlib.Path(folder) / target
        at.mkdir(parents=True, exist_ok=True)
        for name, seed in found.items():
            (at / name).write_bytes(seed)
    print(f"{len(found)} seeds for each of {', '.join(TARGETS)}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: seeds.py FOLDER")
    main(sys.argv[1])
