"""The ways in which an object becomes a file.

`ZIP` and `LEGACY` hold them by name: a function of a path, the object and its
`Twin`, the archive that plain `torch.save` made of it. What it returns is noted
in the file's case. `fits` says whether a writer can write an object, and
`is_bug` whether PyTorch, though it wrote the file, reads it wrong or not at all.
"""

import io
import pickle
import pickletools
import types
import zipfile
from unittest import mock

import torch
from torch.utils.serialization import config

from describe import inert, modern

UNITS = {"DoubleStorage": 8, "LongStorage": 8, "FloatStorage": 4, "IntStorage": 4, "QInt32Storage": 4,
         "HalfStorage": 2, "BFloat16Storage": 2, "ShortStorage": 2, "ComplexFloatStorage": 4, "ComplexDoubleStorage": 8}
UNTYPED_UNITS = {"torch.uint16": 2, "torch.uint32": 4, "torch.uint64": 8, "torch.complex32": 2, "torch.bcomplex32": 2,
                 "torch.bits16": 2}
# Written by PyTorch itself at the end of an archive.
LAST = ("version", ".data/serialization_id")


class Scan(pickle.Unpickler):
    """Finds which classes storages are saved as, and which types rebuild them, without making anything."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.globals, self.classes, self.dtypes = set(), {}, {}

    def find_class(self, module, name):
        full = ".".join(modern(module, name))
        self.globals.add(full)
        ours = {"_rebuild_tensor_v3": self.rebuild_v3, "_rebuild_from_type_v2": self.rebuild_from_type}
        return ours.get(name) or inert(full)

    def persistent_load(self, pid):
        self.classes[pid[2]] = pid[1].full.rpartition(".")[2]
        return pid[2]

    def rebuild_v3(self, key, offset, size, stride, requires_grad, hooks, dtype, *metadata):
        self.dtypes.setdefault(key, set()).add(dtype.full)
        return inert("a tensor")()

    def rebuild_from_type(self, function, cls, args, state):
        return function(*args)


class Twin:
    """An archive that plain `torch.save` wrote, taken apart."""

    def __init__(self, path):
        with zipfile.ZipFile(path) as archive:
            self.root = archive.namelist()[0].split("/")[0]
            self.records = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
        scan = Scan(self.records["data.pkl"])
        scan.load()
        self.globals, self.classes = scan.globals, scan.classes
        # Bytes that swap together, of each storage; several where it is seen as several types.
        self.units = {key: {UNTYPED_UNITS.get(dtype, 1) for dtype in scan.dtypes[key]} if key in scan.dtypes
                      else {UNITS.get(name, 1)} for key, name in self.classes.items()}
        self.untyped = "UntypedStorage" in self.classes.values()
        self.calls = {name.rpartition(".")[2] for name in self.globals}
        self.about, self.contents = {}, {}  # what is noted of the object, and what PyTorch finds in the archive

    def swapped(self):
        """The records of a big-endian machine."""
        records = dict(self.records, byteorder=b"big")
        for key, (unit,) in self.units.items():
            data = records[f"data/{key}"]
            records[f"data/{key}"] = b"".join(data[at:at + unit][::-1] for at in range(0, len(data), unit))
        return records


def saved(**options):
    return lambda path, obj, twin: torch.save(obj, path, **options)


def through_buffer(**options):
    def write(path, obj, twin):
        buffer = io.BytesIO()
        torch.save(obj, buffer, **options)
        path.write_bytes(buffer.getvalue())

    return write


def configured(**settings):
    def write(path, obj, twin):
        with config.patch({f"save.{name}": value for name, value in settings.items()}):
            torch.save(obj, path)

    return write


def named(name):
    """Under a name that the archive's root folder is called after."""
    def write(path, obj, twin):
        path.mkdir()
        torch.save(obj, path / name)
        return {"file": f"{path.name}/{name}"}

    return write


def without_data(path, obj, twin):
    with torch.serialization.skip_data():
        torch.save(obj, path)


def elsewhere(location, **options):
    """As if the storages had been on a device."""
    def write(path, obj, twin):
        with mock.patch.object(torch.serialization, "location_tag", lambda storage: location):
            torch.save(obj, path, **options)
        return {"location": location} if twin.classes else {}

    return write


def by_pickler(**attributes):
    """With a pickler that is set otherwise: a `fast` one puts nothing into the memo."""
    class Pickler(pickle.Pickler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            for name, value in attributes.items():
                setattr(self, name, value)

    return saved(pickle_module=types.SimpleNamespace(Pickler=Pickler, __name__="pickle"))


def packed(path, root, records, method=lambda name: zipfile.ZIP_STORED):
    """As another program packs an archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            archive.writestr(f"{root}/{name}", data, method(name))


def deflated(some=False):
    def method(name):
        return zipfile.ZIP_STORED if some and name.endswith(("0", "2", "data.pkl")) else zipfile.ZIP_DEFLATED

    return lambda path, obj, twin: packed(path, twin.root, twin.records, method)


def optimized(path, obj, twin):
    """The pickle without the memo entries that nothing uses."""
    packed(path, twin.root, dict(twin.records, **{"data.pkl": pickletools.optimize(twin.records["data.pkl"])}))


def unmarked(path, obj, twin):
    """Without the record of the byte order, as before torch 2.1."""
    packed(path, twin.root, {name: data for name, data in twin.records.items() if name != "byteorder"})


def big(path, obj, twin):
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, data in twin.swapped().items():
        if name not in LAST:
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return {"byte_order": "big", "swapped": True}


def big_unmarked(path, obj, twin):
    records = twin.swapped()
    del records["byteorder"]
    packed(path, twin.root, records)
    return {"byte_order": "big", "swapped": True, "default_byte_order": "big"}


def prefixed(write, prefix=b"something else first"):
    """Behind other bytes; both containers may begin anywhere."""
    def write_behind(path, obj, twin):
        write(path, obj, twin)
        path.write_bytes(prefix + path.read_bytes())
        return {"offset": len(prefix)}

    return write_behind


def followed(write):
    def write_before(path, obj, twin):
        write(path, obj, twin)
        path.write_bytes(path.read_bytes() + b"\0garbage" * 9)

    return write_before


ZIP = {
    "protocol_3": saved(pickle_protocol=3),
    "protocol_4": saved(pickle_protocol=4),
    "protocol_5": saved(pickle_protocol=5),
    "protocol_1": saved(pickle_protocol=1),
    "buffer": through_buffer(),
    "buffer_protocol_5": through_buffer(pickle_protocol=5),
    "big": big,
    "big_unmarked": big_unmarked,
    "unmarked": unmarked,
    **{f"aligned_{alignment}": configured(storage_alignment=alignment) for alignment in (1, 3, 16, 48, 4096, 65472)},
    "no_crc": configured(compute_crc32=False),
    "no_data": without_data,
    "no_byteorder_wanted": saved(_disable_byteorder_record=True),
    "deflated": deflated(),
    "partly_deflated": deflated(some=True),
    "optimized": optimized,
    "fast": by_pickler(fast=True),
    "prefixed": prefixed(saved()),
    "followed": followed(saved()),
    **{f"on_{location.replace(':', '_')}": elsewhere(location) for location in ("cuda:0", "cuda:11", "mps", "xpu:1")},
    "root_of_21": named("a" * 21 + ".pt"),
    "dotted": named("model.v1.best.ckpt"),
    "unicode": named("naïve 模型.pth"),
    "long": named("n" * 200),
}

LEGACY = {
    **{f"legacy_{protocol}": saved(pickle_protocol=protocol, _use_new_zipfile_serialization=False)
       for protocol in range(1, 6)},
    "legacy_buffer": through_buffer(_use_new_zipfile_serialization=False),
    "legacy_prefixed": prefixed(saved(_use_new_zipfile_serialization=False)),
    "legacy_followed": followed(saved(_use_new_zipfile_serialization=False)),
    "legacy_on_cuda_2": elsewhere("cuda:2", _use_new_zipfile_serialization=False),
}


def fits(writer, twin):
    if writer in ("protocol_1", "legacy_1"):
        return not twin.calls & {"Slotted", "Named", "DTensor"}  # which Python and PyTorch cannot pickle so
    if writer in ("big", "big_unmarked"):
        return all(len(units) == 1 for units in twin.units.values())
    if writer == "no_data":
        return not twin.calls & {"_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_nested_tensor"}
    return True


def is_bug(writer, twin):
    # Legacy streams: PyTorch writes untyped storages and cannot read them.
    if writer.startswith("legacy"):
        return twin.untyped
    # Big-endian archives: it forgets to swap the types that have no storage class of their own.
    return writer in ("big", "big_unmarked") and any(
        name == "UntypedStorage" and twin.units[key] != {1} for key, name in twin.classes.items())
