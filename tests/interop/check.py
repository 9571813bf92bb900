"""check.py FOLDER: loads what was saved again from the checkpoints of `make.py`, and compares it with what was in them.

`again.jsonl` in the folder has a line for each file: `file`; `of`, a line of `expected.jsonl`; `cut`, whether storages
may be shorter than they were; and for a list of tensors `paths`, where each is from.
"""

import json
import pathlib
import sys

import torch
import torch.distributed.tensor  # which must be there for its tensors to be loaded

import describe
from tensors import UNTYPED

# Of what is told of a tensor, what does not change when it is saved in a list, by itself.
KEPT = ("dtype", "shape", "layout", "requires_grad", "stride", "is_conj", "is_neg", "sha256", "is_coalesced", "scale",
        "zero_point", "axis", "storage_offset", "storage_nbytes")
CUT = ("storage_offset", "storage_nbytes")


def without_cut(entries):
    entries = [entry for entry in entries if entry["kind"] != "storage"]
    return [{name: value for name, value in entry.items() if name not in CUT and name != "storage"} for entry in entries]


def same_entries(found, expected, cut):
    """Nothing, or what differs."""
    if cut:
        found, expected = without_cut(found), without_cut(expected)
    def unread(entries):
        return [entry["keys"] for entry in entries if entry["kind"] == "unread"]

    if unread(found) != unread(expected):
        return None  # an instance that is made by keywords is spelled otherwise in another protocol
    for one, other in zip(found, expected):
        # What is not read is called otherwise by another unpickler.
        if one != other and not one["kind"] == other["kind"] == "unread":
            return f"found {one}, expected {other}"
    return None if len(found) == len(expected) else f"{len(found)} entries, expected {len(expected)}"


def same_list(found, expected, paths):
    by_path = {}
    for entry in expected:
        by_path.setdefault(entry["path"], entry)
    ours = {entry["path"]: entry for entry in found if entry["kind"] == "tensor"}
    numbers = {}
    for index, path in enumerate(paths):
        entry, other = ours[str(index)], by_path.get(path)
        # A container that stands in several places is told of once; and what some objects hold is not told.
        if other is None or other["kind"] != "tensor":
            continue
        for name in KEPT:
            if name in other and entry.get(name) != other[name]:
                return f"{path}: {name} is {entry.get(name)}, expected {other[name]}"
        if other["class"].endswith("Parameter") != entry["class"].endswith("Parameter"):
            return f"{path}: {entry['class']}, expected {other['class']}"
        if "storage" in other and numbers.setdefault(other["storage"], entry["storage"]) != entry["storage"]:
            return f"{path}: its storage is shared otherwise"
    return None if len(set(numbers.values())) == len(numbers) else "storages are shared that were not"


def check(folder, line, expected):
    contents = expected["contents"]
    with (folder / line["file"]).open("rb") as file:
        mode, value = describe.load(file)
        found = describe.describe(mode, value)["entries"]
    if "paths" in line:
        # PyTorch fails where an untyped storage wants a gradient: `rebuild_v3` in `describe.py`.
        bug = any(getattr(torch, entry["dtype"][6:]) in UNTYPED and entry["requires_grad"]
                  for entry in found if entry["kind"] == "tensor")
        if mode != "weights_only" and not bug:
            return "it does not load as weights only"
        return same_list(found, contents["entries"], line["paths"])
    if line["file"].endswith("_default.pt") and expected["writer"] == "zip" and mode != contents["mode"]:
        return f"it loads as {mode}, expected {contents['mode']}"
    return same_entries(found, contents["entries"], line["cut"])


def main(folder):
    describe.prepare()
    folder = pathlib.Path(folder)
    expected = [json.loads(line) for line in (folder / "expected.jsonl").read_text().splitlines()]
    lines = [json.loads(line) for line in (folder / "again.jsonl").read_text().splitlines()]
    failures = []
    for line in lines:
        about = expected[line["of"]]
        try:
            why = check(folder, line, about)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        if why is not None:
            failures.append(f"{line['file']} of {about['file']}: {why[:1000]}")
    if failures:
        sys.exit(f"{len(failures)} of {len(lines)} files\n" + "\n".join(failures))


if __name__ == "__main__":
    main(*sys.argv[1:])
