"""What PyTorch finds in a file, as JSON.

`load` reads a file back: with `weights_only=True`, or else with an unpickler in
which every global that is no part of PyTorch's own dialect becomes an inert
class that only remembers what the pickle did with it. `describe` lists what was
read:

    {"mode": "weights_only" | "inert" | "jit", "entries": [...]}

Entries stand in the order of a walk from the root. Each has `kind`; `path`, the
elements joined by slashes; and `keys`, the same typed: `s:` a string key, `sr:`
the repr of one with lone surrogates, `i:` an integer key, `r:` the repr of
another key, `x:` an index, `a:` an attribute or a part. By kind:

    tensor     class, dtype, shape, layout, requires_grad; strided ones also stride, storage_offset, storage (a number
               by first sight), storage_nbytes, is_conj, is_neg, sha256 of the logical values (C order, little-endian,
               quantized: the integers); same_as, the path of the same object; subclass, the name of an inert class.
               Parts of sparse and quantized tensors follow as `#indices`, `#q_scales` ..., attributes as `.name`.
    storage    dtype, nbytes, storage, sha256
    container  type, len; its members follow
    leaf       type, repr; sha256 of the content of texts, bytes and integers beyond 64 bits; bits of floats
    object     type `stub:module.name`; len, the number of its arguments; `#args/0`, `#kwargs/name`, the keys of its state
               or `#state`, `#items/0` and `#dict/key` follow
    ref        to, the path of the same container or object
    unread     nothing is told of what lies at this path and below it
"""

import _compat_pickle
import collections
import copyreg
import hashlib
import logging
import pickle
import struct
import sys
import types
import warnings

import torch

# Classes whose instances readers may well decode: their calls are not what a reader is asked for.
DECODED = ("numpy.", "datetime.", "pathlib.", "functools.", "argparse.", "torch.distributed.",
           "torch.nested.", "torch._utils._rebuild_nested_tensor",
           "torch._utils._rebuild_wrapper_subclass", "torch._tensor._rebuild_from_type_v2")

REAL = {"collections": {"OrderedDict", "Counter", "defaultdict", "deque"},
        "builtins": {"set", "frozenset", "bytes", "bytearray", "complex"},
        "_codecs": {"encode"},
        "torch": {"Size", "device", "Tensor"},
        "torch.nn.parameter": {"Parameter"},
        "torch.serialization": {"_get_layout"},
        "torch.storage": {"UntypedStorage", "TypedStorage"}}

HALVES = [getattr(torch, name) for name in ("complex32", "bcomplex32") if hasattr(torch, name)]
CONTAINERS = (dict, list, tuple, collections.deque)


class Inert:
    """Stands for an instance of a class that nobody looks up."""

    def __new__(cls, *args, **kwargs):
        self = object.__new__(cls)
        self.args, self.kwargs, self.states, self.items, self.pairs = args, kwargs, [], [], []
        return self

    def __call__(self, *args, **kwargs):
        return self  # a `functools.partial`: protocol 2 makes instances by keywords so

    def __setstate__(self, state):
        self.states.append(state)

    def append(self, item):
        self.items.append(item)

    add = append

    def extend(self, items):
        self.items.extend(items)

    def __setitem__(self, key, value):
        self.pairs.append((key, value))


def prepare():
    """Makes this process fit for deep values, and quiet."""
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(20_000)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)


def inert(name, known={}):
    """Returns the one inert class of a name."""
    if name not in known:
        known[name] = type(name, (Inert,), {"full": name})
    return known[name]


def reconstructor(cls, base, content):
    """How protocols 0 and 1 spell an instance."""
    if not issubclass(cls, Inert):
        return copyreg._reconstructor(cls, base, content)
    return cls() if content is None else cls(content)


def rebuild_from_type(function, cls, args, state):
    """A tensor of an inert subclass stays a tensor, and remembers the class and its attributes."""
    if not issubclass(cls, Inert):
        return torch._tensor._rebuild_from_type_v2(function, cls, args, state)
    tensor = function(*args)
    if not isinstance(tensor, torch.Tensor):
        return inert("torch._tensor._rebuild_from_type_v2")(function, cls, args, state)
    tensor.inert_class = cls.full
    for part in state if isinstance(state, tuple) else (state,):
        tensor.__dict__.update(part or {})
    return tensor


def rebuild_v3(storage, offset, size, stride, requires_grad, *rest):
    """PyTorch's own fails where a gradient is required, for it sets the storage of a leaf that requires one."""
    return torch._utils._rebuild_tensor_v3(storage, offset, size, stride, False, *rest).requires_grad_(requires_grad)


OURS = {"copyreg._reconstructor": reconstructor,
        "torch._tensor._rebuild_from_type_v2": rebuild_from_type,
        "torch._utils._rebuild_tensor_v3": rebuild_v3}


def modern(module, name):
    """The names of Python 3 for those of Python 2, which protocols 0 to 2 write."""
    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
    return _compat_pickle.IMPORT_MAPPING.get(module, module), name


class Unpickler(pickle.Unpickler):
    """Makes PyTorch's tensors and Python's plain values, and inert objects of everything else."""

    def find_class(self, module, name):
        module, name = modern(module, name)
        full = f"{module}.{name}"
        if full in OURS:
            return OURS[full]
        real = name in REAL.get(module, ())
        if module == "torch._utils" and full not in DECODED:
            real = name.startswith("_rebuild_")
        if module == "torch":
            real = real or isinstance(getattr(torch, name, None), (torch.dtype, torch.qscheme))
        return super().find_class(module, name) if real else inert(full)


INERT = types.SimpleNamespace(__name__="inert", Unpickler=Unpickler,
                              load=lambda file, **options: Unpickler(file, **options).load())


def load(file):
    """Returns the mode in which PyTorch reads what an open file holds from here on, and what it reads."""
    start, failures = file.tell(), []
    for mode, options in [("weights_only", {"weights_only": True}),
                          ("inert", {"weights_only": False, "pickle_module": INERT})]:
        file.seek(start)
        try:
            return mode, torch.load(file, map_location="cpu", **options)
        except Exception as error:
            failures.append(f"{mode}: {type(error).__name__}: {error}")
    raise ValueError("\n".join(failures))


def describe(mode, value):
    """Returns the description of what was read."""
    walk = Walk()
    walk.value(value, [], [])
    return {"mode": mode, "entries": walk.entries}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def storage_bytes(storage):
    if storage.nbytes() == 0:
        return b""
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,)).numpy().tobytes()


def dense(tensor):
    """A copy whose elements lie side by side; `contiguous` leaves odd strides of single elements as they are."""
    return tensor.clone(memory_format=torch.contiguous_format).reshape(-1)


def logical_bytes(tensor):
    """The values in C order; the integers of a quantized tensor."""
    if tensor.numel() == 0:
        return b""
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    if tensor.dtype == torch.bool:  # as they are: a copy makes 1 of every byte that is not 0
        tensor = tensor.view(torch.uint8)
    if tensor.dtype in HALVES:  # of which PyTorch can do little more than copy them
        conj, neg = tensor.is_conj(), tensor.is_neg()
        tensor = torch._neg_view(tensor) if neg else tensor
        tensor = tensor.conj() if conj else tensor
        halves = dense(tensor).view(torch.int16).numpy().view("uint16").copy()
        halves[0::2] ^= 0x8000 * neg
        halves[1::2] ^= 0x8000 * (neg ^ conj)
        return halves.tobytes()
    if tensor.is_neg() and tensor.is_complex():  # done at once with a conj bit, zeros get one sign or the other
        parts = torch.view_as_real(dense(torch._neg_view(tensor).resolve_conj()))
        tensor = torch.view_as_complex(-parts)
    tensor = tensor.resolve_conj().resolve_neg()
    return dense(tensor).view(torch.uint8).numpy().tobytes()


def type_name(cls):
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def spell(key):
    """A dictionary key as an element of a path, and typed."""
    if isinstance(key, str):
        try:
            key.encode()
            return key, f"s:{key}"
        except UnicodeEncodeError:
            return repr(key), f"sr:{key!r}"
    if type(key) is int:
        return str(key), f"i:{key}"
    if isinstance(key, type) and issubclass(key, Inert):
        return f"<stub {key.full}>", f"r:<stub {key.full}>"
    if isinstance(key, torch.Tensor):  # the state of an optimizer that was pickled whole
        kind = "parameter" if isinstance(key, torch.nn.Parameter) else "tensor"
        element = f"<{kind} {str(key.dtype)[6:]} {list(key.shape)}>"
        return element, f"r:{element}"
    return repr(key), f"r:{key!r}"


class Walk:
    def __init__(self):
        self.entries = []
        self.seen = {}  # the path of each container, object and tensor by id
        self.storages = {}  # the number of each storage by the address of what it is in C++
        self.kept = []  # so that no id and no address is used again

    def add(self, kind, path, keys, **fields):
        self.entries.append({"kind": kind, "path": "/".join(path), "keys": keys, **fields})

    def number(self, storage):
        self.kept.append(storage)
        return self.storages.setdefault(storage._cdata, len(self.storages))

    def value(self, value, path, keys):
        if isinstance(value, torch.Tensor):
            if type(value) not in (torch.Tensor, torch.nn.Parameter):
                return self.add("unread", path, keys, type=type_name(type(value)))
            return self.tensor(value, path, keys)
        if isinstance(value, (torch.UntypedStorage, torch.storage.TypedStorage)):
            return self.storage(value, path, keys)
        if isinstance(value, Inert) and type(value).full.startswith(DECODED):
            return self.add("unread", path, keys, type=type(value).full)
        if not isinstance(value, (Inert, *CONTAINERS)) or isinstance(value, torch.Size):
            return self.leaf(value, path, keys)
        if value != () and id(value) in self.seen:
            return self.add("ref", path, keys, to=self.seen[id(value)])
        self.seen[id(value)] = "/".join(path)
        self.kept.append(value)
        if isinstance(value, Inert):
            return self.object(value, path, keys)
        self.add("container", path, keys, type=type_name(type(value)), len=len(value))
        if isinstance(value, dict):
            self.pairs(value.items(), path, keys)
        else:
            for index, item in enumerate(value):
                self.value(item, [*path, str(index)], [*keys, f"x:{index}"])
        self.attributes(value, path, keys)

    def pairs(self, pairs, path, keys, prefix=""):
        for key, value in pairs:
            element, typed = spell(key)
            self.value(value, [*path, prefix + element], [*keys, typed])

    def attributes(self, value, path, keys):
        for name, attribute in getattr(value, "__dict__", {}).items():
            if name != "inert_class":
                self.value(attribute, [*path, f".{name}"], [*keys, f"a:{name}"])

    def object(self, value, path, keys):
        self.add("object", path, keys, type=f"stub:{type(value).full}", len=len(value.args))
        for index, item in enumerate(value.args):
            self.value(item, [*path, f"#args/{index}"], [*keys, "a:args", f"x:{index}"])
        self.pairs(value.kwargs.items(), path, [*keys, "a:kwargs"], "#kwargs/")
        for state in value.states:
            if isinstance(state, dict):
                self.pairs(state.items(), path, [*keys, "a:state"])
            else:
                self.value(state, [*path, "#state"], [*keys, "a:state"])
        for index, item in enumerate(value.items):
            self.value(item, [*path, f"#items/{index}"], [*keys, "a:items", f"x:{index}"])
        self.pairs(value.pairs, path, [*keys, "a:dict"], "#dict/")

    def leaf(self, value, path, keys):
        if isinstance(value, type):
            name = value.full if issubclass(value, Inert) else type_name(value)
            return self.add("leaf", path, keys, type="global", repr=name)
        fields = {"type": type_name(type(value)), "repr": repr(value)}
        if isinstance(value, (set, frozenset)):
            fields |= {"len": len(value), "repr": "{" + ", ".join(sorted(map(repr, value))) + "}"}
        elif isinstance(value, str):
            fields["sha256"] = sha256(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, (bytes, bytearray)):
            fields["sha256"] = sha256(value)
        elif isinstance(value, float):
            fields["bits"] = struct.pack(">d", value).hex()
        elif type(value) is int and not -(2**63) <= value < 2**63:
            length = (value if value >= 0 else ~value).bit_length() // 8 + 1
            fields["sha256"] = sha256(value.to_bytes(length, "little", signed=True))
        self.add("leaf", path, keys, **fields)

    def storage(self, value, path, keys):
        typed = isinstance(value, torch.storage.TypedStorage)
        untyped = value._untyped_storage if typed else value
        self.add("storage", path, keys, dtype=str(value.dtype if typed else torch.uint8), nbytes=untyped.nbytes(),
                 storage=self.number(untyped), sha256=sha256(storage_bytes(untyped)))

    def tensor(self, tensor, path, keys, part=False):
        fields = {"class": type_name(type(tensor)), "dtype": str(tensor.dtype), "shape": list(tensor.shape),
                  "layout": str(tensor.layout), "requires_grad": tensor.requires_grad}
        known = None if part else self.seen.get(id(tensor))
        if known is not None:
            fields["same_as"] = known
        elif not part:
            self.seen[id(tensor)] = "/".join(path)
            self.kept.append(tensor)
        if hasattr(tensor, "inert_class"):
            fields["subclass"] = tensor.inert_class
        parts = {}
        if tensor.layout == torch.sparse_coo:
            fields["is_coalesced"] = tensor.is_coalesced()
            parts = {"indices": tensor._indices(), "values": tensor._values()}
        elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
            parts = {name: getattr(tensor, name)() for name in ("crow_indices", "col_indices", "values")}
        elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
            parts = {name: getattr(tensor, name)() for name in ("ccol_indices", "row_indices", "values")}
        else:
            fields |= {"stride": list(tensor.stride()), "storage_offset": tensor.storage_offset()}
            if tensor.device.type != "meta":
                storage = tensor.untyped_storage()
                fields |= {"storage": self.number(storage), "storage_nbytes": storage.nbytes(),
                           "is_conj": tensor.is_conj(), "is_neg": tensor.is_neg(),
                           "sha256": sha256(logical_bytes(tensor.detach()))}
        if tensor.is_quantized and tensor.qscheme() == torch.per_tensor_affine:
            fields |= {"scale": tensor.q_scale(), "zero_point": tensor.q_zero_point()}
        elif tensor.is_quantized:
            fields["axis"] = tensor.q_per_channel_axis()
            parts = {"q_scales": tensor.q_per_channel_scales(), "q_zero_points": tensor.q_per_channel_zero_points()}
        self.add("tensor", path, keys, **fields)
        for name, value in parts.items():
            self.tensor(value, [*path, f"#{name}"], [*keys, f"a:{name}"], part=True)
        if known is None:
            self.attributes(tensor, path, keys)
