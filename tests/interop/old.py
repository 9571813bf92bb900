"""old.py FOLDER: loads the lists of tensors that `again.jsonl` calls old with an old PyTorch, as weights only.

Compares sizes, strides, types and values with what the checkpoints that they are from hold by `expected.jsonl`.
"""

import hashlib
import json
import pathlib
import sys
import warnings

import torch


def differs(tensor, entry):
    values = torch.empty(tensor.numel(), dtype=tensor.dtype)
    values.copy_(tensor.detach().reshape(-1))
    data = values.view(torch.uint8).numpy().tobytes() if values.numel() else b""
    found = {"shape": list(tensor.shape), "stride": list(tensor.stride()), "dtype": str(tensor.dtype),
             "storage_offset": tensor.storage_offset(), "requires_grad": tensor.requires_grad,
             "sha256": hashlib.sha256(data).hexdigest()}
    return [f"{name} is {value}, expected {entry[name]}" for name, value in found.items()
            if name in entry and entry[name] != value]


def main(folder):
    warnings.simplefilter("ignore")
    folder = pathlib.Path(folder)
    expected = [json.loads(line) for line in (folder / "expected.jsonl").read_text().splitlines()]
    failures, checked = [], 0
    for line in map(json.loads, (folder / "again.jsonl").read_text().splitlines()):
        if not line.get("old"):
            continue
        by_path = {}
        for entry in expected[line["of"]]["contents"]["entries"]:
            by_path.setdefault(entry["path"], entry)
        try:
            tensors = torch.load(folder / line["file"], map_location="cpu", weights_only=True)
            for tensor, path in zip(tensors, line["paths"]):
                entry = by_path.get(path, {})
                if entry.get("kind") == "tensor":
                    failures += [f"{line['file']}: {path}: {why}" for why in differs(tensor, entry)]
                    checked += 1
        except Exception as error:
            failures.append(f"{line['file']}: {type(error).__name__}: {error}")
    if failures or checked < 500:
        sys.exit(f"{checked} tensors\n" + "\n".join(failures))


if __name__ == "__main__":
    main(*sys.argv[1:])
