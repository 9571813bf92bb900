"""make.py FOLDER SEED: makes checkpoints with PyTorch, and notes what PyTorch finds in them.

Random objects (`values.py`, `tensors.py`) and those of training loops
(`training.py`) go through several writers each (`writers.py`). `expected.jsonl`
in the folder has a line for each file, or for each part of a file that holds
several:

    file, object, writer
    format            zip, legacy or torchscript
    byte_order        little or big
    unlisted          the globals beyond those that `weights_only` allows; none where a list is empty
    offset, end       where it begins in the file, and where the next one begins, if not at 0 and not known
    location          of every storage, if not told by PyTorch when it loads to the CPU
    default_byte_order  what a reader must be told
    contents          the description of `describe.py`; with `swapped` where it shows the elements as they are,
                      and not as PyTorch, which does not swap some of them

The same seed makes the same objects with the same PyTorch.
"""

import itertools
import json
import pathlib
import random
import sys

import torch
from torch.utils.serialization import config

import describe
import tensors
import training
import values
import writers

TREES, MIXED, FROZEN = 70, 70, 12

LAYOUTS = {"csr": torch.sparse_csr, "csc": torch.sparse_csc, "bsr": torch.sparse_bsr, "bsc": torch.sparse_bsc}


def objects():
    """Names, and functions of a generator of random numbers that make an object."""
    for number in range(TREES):
        yield f"tree_{number}", lambda rng: values.Tree(rng).grow()
    for number in range(MIXED):
        yield f"mixed_{number}", lambda rng: values.Tree(rng, tensors.Pool(rng).tensor).grow()
    for number in range(FROZEN):
        yield f"frozen_{number}", lambda rng: values.Tree(rng, tensors.Pool(rng).tensor, frozen=True).grow()
    for depth in (60, 200):
        yield f"deep_{depth}", lambda rng, depth=depth: values.deep(rng, depth)
    for name in ("batches", "memo", "odd_keys"):
        yield name, getattr(values, name)
    yield "scalar", values.scalar
    yield "text", lambda rng: [values.text(rng, 0.3) for _ in range(60)]
    yield "numbers", lambda rng: [values.INTEGERS, values.FLOATS, [values.integer(rng) for _ in range(60)],
                                  [complex(a, b) for a in values.FLOATS for b in values.FLOATS]]
    yield "torch_values", lambda rng: [values.DTYPES, values.LAYOUTS, [values.of_torch(rng) for _ in range(20)]]
    yield "long_integers", lambda rng: [2**2040, -2**4000, 2**14000, {2**3000: None}]
    for dtype in [*tensors.CLASSED, *tensors.UNTYPED]:
        for number in range(2):
            yield f"{str(dtype)[6:]}_{number}", lambda rng, dtype=dtype: tensors.of_dtype(rng, dtype)
    for name in ("coordinates", "quantized", "meta", "shared", "subclasses", "typed_storages"):
        for number in range(5):
            yield f"{name}_{number}", getattr(tensors, name)
    for name, layout in LAYOUTS.items():
        for number in range(3):
            yield f"{name}_{number}", lambda rng, layout=layout: tensors.compressed(rng, layout)
    for name in ("storages", "imaginary", "reinterpreted"):
        for number in range(2):
            yield f"{name}_{number}", getattr(tensors, name)
    yield "root_tensor", lambda rng: tensors.flat(rng, torch.float32, 6).view(2, 3).t()
    yield "root_parameter", lambda rng: torch.nn.Parameter(torch.randn(2))
    for name, module in training.MODULES.items():
        yield f"state_dict_{name}", lambda rng, module=module: module().state_dict()
        if name != "parametrized":  # which PyTorch refuses to pickle
            yield f"module_{name}", lambda rng, module=module: module()
    for name in training.OPTIMIZERS:
        yield f"optimizer_{name}", lambda rng, name=name: training.optimizer(name)
    for name in training.SCHEDULERS:
        yield f"scheduler_{name}", lambda rng, name=name: training.scheduler(name)
    for number in range(4):
        yield f"checkpoint_{number}", training.checkpoint
    yield "whole_model_and_optimizer", lambda rng: training.trained("adam")
    yield "module_of_a_project", lambda rng: {"model": training.Block(), "epoch": 3}
    yield "rng_states", lambda rng: training.rng_states()
    yield "objects", lambda rng: training.objects()
    yield "keywords", lambda rng: training.keywords()
    yield "numpy_values", training.numpy_values
    yield "standard_library", lambda rng: training.standard_library()
    yield "nested", lambda rng: training.nested()
    yield "distributed", lambda rng: training.distributed()


class Maker:
    def __init__(self, folder, seed):
        self.folder, self.seed = folder, seed
        self.allowed = set(torch._weights_only_unpickler._get_allowed_globals())
        self.lines = (folder / "expected.jsonl").open("w")
        self.order = random.Random(f"{seed} writers")
        self.turns = {id(group): itertools.cycle(self.order.sample(list(group), len(group)))
                      for group in (writers.ZIP, writers.LEGACY)}
        self.failures = []
        self.streams = []

    def note(self, file, about, **fields):
        case = {"file": file, "format": "zip", "byte_order": "little", "unlisted": []} | about | fields
        self.lines.write(json.dumps(case) + "\n")

    def next(self, group, twin):
        """The writer of a group whose turn it is, of those that can write an object."""
        return next(writer for writer in self.turns[id(group)] if writers.fits(writer, twin))

    def make(self, number, name, build):
        """Writes one object, as `torch.save` does and in a few other ways."""
        rng = random.Random(f"{self.seed} {name}")
        torch.manual_seed(rng.getrandbits(32))
        random.seed(rng.random())
        obj = build(rng)
        path = self.folder / f"{number:03}_{name}.pt"
        torch.save(obj, path)
        twin = writers.Twin(path)
        twin.about = {"object": name, "unlisted": sorted(twin.globals - self.allowed - {"builtins.bytes"})}
        with path.open("rb") as file:
            twin.contents = describe.describe(*describe.load(file))
        self.note(path.name, twin.about, writer="zip", contents=twin.contents)
        chosen = {self.next(writers.ZIP, twin), self.next(writers.ZIP, twin), self.next(writers.LEGACY, twin)}
        if writers.fits("big", twin) and any(units != {1} for units in twin.units.values()):
            chosen.add("big")
        for writer in sorted(chosen):
            path = self.folder / f"{number:03}_{name}_{writer}.pt"
            self.write(path, writer, (writers.ZIP | writers.LEGACY)[writer], obj, twin)
        if not twin.untyped:
            self.streams.append((obj, twin))

    def write(self, path, writer, write, obj, twin):
        try:
            fields = {"file": path.name} | (write(path, obj, twin) or {})
        except ValueError as error:
            if writer == "fast" and "fast mode" in str(error):
                return  # which cannot write cycles
            raise
        if writer.startswith("legacy"):
            fields["format"] = "legacy"
        order = {"load.endianness": torch.serialization.LoadEndianness.BIG} if "default_byte_order" in fields else {}
        with (self.folder / fields["file"]).open("rb") as file, config.patch(order):
            file.seek(fields.get("offset", 0))
            try:
                contents = describe.describe(*describe.load(file))
            except ValueError:
                if not writers.is_bug(writer, twin):
                    raise
                contents = twin.contents
        if fields.pop("swapped", False):
            if not writers.is_bug(writer, twin):
                assert contents == twin.contents, "a big-endian file holds something else"
            contents = twin.contents | {"swapped": True}
        self.note(about=twin.about, writer=writer, contents=contents, **fields)

    def write_streams(self):
        """Files of several legacy streams, one behind the other."""
        for number in range(6):
            chosen = self.order.sample(self.streams, 4)
            path = self.folder / f"streams_{number}.pt"
            with path.open("wb") as file:
                ends = []
                for obj, _ in chosen:
                    torch.save(obj, file, _use_new_zipfile_serialization=False)
                    ends.append(file.tell())
            with path.open("rb") as file:
                for (_, twin), begin, end in zip(chosen, [0, *ends], ends):
                    file.seek(begin)
                    self.note(path.name, twin.about, writer="streams", format="legacy", offset=begin, end=end,
                              contents=describe.describe(*describe.load(file)))

    def write_programs(self):
        """TorchScript archives: PyTorch gives their state dict."""
        for name, module in training.PROGRAMS.items():
            path = self.folder / f"{name}.pt"
            torch.jit.save(torch.jit.script(module()), path)
            state = torch.jit.load(path).state_dict(keep_vars=True)
            self.note(path.name, {"object": name}, writer="torch.jit.save", format="torchscript",
                      contents=describe.describe("jit", state))

    def attempt(self, name, work, *args):
        try:
            work(*args)
        except Exception as error:
            self.failures.append(f"{name}: {type(error).__name__}: {error}")


def main(folder, seed):
    describe.prepare()
    maker = Maker(pathlib.Path(folder), seed)
    for number, (name, build) in enumerate(objects()):
        maker.attempt(name, maker.make, number, name, build)
    maker.attempt("streams", maker.write_streams)
    maker.attempt("programs", maker.write_programs)
    maker.lines.close()
    if maker.failures:
        sys.exit("\n".join(maker.failures))


if __name__ == "__main__":
    main(*sys.argv[1:])
