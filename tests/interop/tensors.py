"""Random tensors: every element type, view, layout and scheme."""

import warnings

import torch

SHAPES = [(), (0,), (1,), (5,), (2, 3), (3, 1, 2), (0, 4), (2, 2, 2, 2), (1, 1), (7, 2)]


def dtypes(*names):
    """Those of some names that this PyTorch has."""
    return [getattr(torch, name) for name in names if hasattr(torch, name)]


FLOATS = dtypes("float64", "float32", "float16", "bfloat16")
INTEGERS = dtypes("int64", "int32", "int16", "int8", "uint8")
COMPLEX = dtypes("complex128", "complex64")
CLASSED = [*FLOATS, *INTEGERS, *COMPLEX, torch.bool]
# Without a storage class of their own: they go through untyped storages.
UNTYPED = dtypes("uint16", "uint32", "uint64", "complex32", "bcomplex32", "float8_e5m2", "float8_e4m3fn",
                 "float8_e5m2fnuz", "float8_e4m3fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "bits8", "bits16",
                 "bits1x8", "bits2x4", "bits4x2")
CONJUGABLE = [*COMPLEX, *dtypes("complex32", "bcomplex32")]


def flat(rng, dtype, length):
    """A storage's worth of random bits, seen whole."""
    if dtype == torch.bool:
        return torch.tensor([rng.random() < 0.5 for _ in range(length)], dtype=torch.bool)
    if length == 0:
        return torch.empty(0, dtype=dtype)
    return torch.tensor(list(rng.randbytes(length * dtype.itemsize)), dtype=torch.uint8).view(dtype)


def finite(rng, dtype, length):
    """The same without nan, of which PyTorch may lose the payload when it negates."""
    if dtype not in [*FLOATS, *COMPLEX]:
        return flat(rng, dtype, length)
    numbers = [complex(rng.gauss(0, 9), rng.gauss(0, 9)) for _ in range(length)]
    return torch.tensor(numbers if dtype.is_complex else [number.real for number in numbers], dtype=dtype)


def view(rng, base):
    """A random view of a storage: any offset, any strides, overlapping or not, of 0 to 5 dimensions."""
    length, place = base.numel(), rng.randrange(base.numel() + 1)
    shape, stride, room = [], [], length - place
    for _ in range(rng.choice([0, 1, 1, 2, 2, 2, 3, 3, 4, 5])):
        step = rng.choice([0, 1, 1, 2, 3, 5, 8])
        most = 5 if step == 0 else min(5, (room - 1) // step + 1) if room > 0 else 0
        size = rng.randint(0 if rng.random() < 0.08 else min(1, most), most)
        room -= max(0, size - 1) * step
        shape.append(size)
        stride.append(step)
    if length == place and 0 not in shape:
        place, room = max(0, length - 1), 1
        shape = [min(size, 1) for size in shape] if length else [0, *shape]
        stride = stride if length else [1, *stride]
    return torch.as_strided(base, shape, stride, place)


def shaped(rng, base):
    """A view as models have them."""
    square = base[:base.numel() // 6 * 6].view(2, -1, 3)
    return rng.choice([
        lambda: base, lambda: square, lambda: square.transpose(0, 2), lambda: square.permute(1, 2, 0),
        lambda: base[1::2], lambda: square[1], lambda: square[:, :, 1], lambda: square[..., ::2],
        lambda: base[3], lambda: base[:0], lambda: square[0].t(), lambda: base[2:5].expand(4, 3),
        lambda: base[1].expand(2, 2), lambda: base[:1].expand(0, 1), lambda: square.narrow(1, 1, 1),
        lambda: base.unfold(0, 3, 2), lambda: square[:1, :1], lambda: square.flatten(0, 1).diagonal(),
    ])()


def signed(rng, tensor):
    """With a conj or neg bit, perhaps both."""
    if tensor.is_complex() and rng.random() < 0.7:
        tensor = tensor.conj()
    if tensor.dtype in [*FLOATS, *CONJUGABLE] and rng.random() < 0.6:
        tensor = torch._neg_view(tensor)
    return tensor


def graded(rng, tensor):
    """With or without gradient, a parameter or not."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor if rng.random() < 0.8 else torch.nn.Parameter(tensor, requires_grad=False)
    if rng.random() < 0.3:
        return torch.nn.Parameter(tensor, requires_grad=rng.random() < 0.7)
    return tensor.detach().requires_grad_(rng.random() < 0.3)


def of_dtype(rng, dtype):
    """One storage of a type seen in many ways, a second one, and an empty one."""
    base = flat(rng, dtype, rng.choice([18, 24, 37, 60]))
    views = [rng.choice([view, shaped])(rng, base) for _ in range(8)]
    views = [graded(rng, tensor) for tensor in views]
    if dtype in [*FLOATS, *CONJUGABLE]:
        numbers = finite(rng, dtype, 20)
        views += [signed(rng, rng.choice([view, shaped])(rng, numbers)) for _ in range(3)]
    return {"views": views, "base": base, "other": flat(rng, dtype, 7), "empty": flat(rng, dtype, 0),
            "zero_d": flat(rng, dtype, 1).reshape(()), "again": views[0]}


def imaginary(rng):
    """Real views of conjugated complex numbers: PyTorch's own way to a neg bit."""
    return [finite(rng, dtype, rng.randrange(1, 9)).conj().imag for dtype in COMPLEX]


def reinterpreted(rng):
    """One untyped storage as elements of several sizes."""
    base = flat(rng, torch.uint64, 6)
    return {"u64": base, "u32": base.view(torch.uint32)[1:], "u16": base.view(torch.uint16)[::3],
            "f8": base.view(torch.float8_e5m2)[5:9], "bits": base.view(torch.bits8)}


class Pool:
    """A few storages, and endless tensors that view them: leaves for trees."""

    def __init__(self, rng, choice=None):
        self.rng = rng
        chosen = [rng.choice(choice or [*CLASSED, *UNTYPED]) for _ in range(rng.randrange(1, 5))]
        self.bases = [finite(rng, dtype, rng.choice([12, 30])) for dtype in chosen]
        self.made = []

    def tensor(self):
        rng = self.rng
        if self.made and rng.random() < 0.15:
            return rng.choice(self.made)
        tensor = rng.choice([view, shaped])(rng, rng.choice(self.bases))
        if rng.random() < 0.2:
            tensor = signed(rng, tensor)
        tensor = graded(rng, tensor)
        if rng.random() < 0.1:
            tensor.note, tensor.twin = "an attribute", rng.choice(self.bases)[:2]
        self.made.append(tensor)
        return tensor


class Tagged(torch.Tensor):
    """A subclass without behaviour."""


def subclasses(rng):
    """Tensors of a subclass, with attributes, one with a tensor among them; a plain tensor with attributes."""
    base = flat(rng, rng.choice(CLASSED), 24)
    one, two = (shaped(rng, base).as_subclass(Tagged) for _ in range(2))
    one.label, one.extra = "first", {"inner": base[:3], "numbers": [1, 2.5]}
    plain = torch.randn(3)
    plain.axes = ("x", "y")
    parameter = torch.nn.Parameter(torch.randn(2), requires_grad=rng.random() < 0.5)
    parameter.sharding = {"dim": 0, "of": base[4:]}
    return {"one": one, "two": two, "plain": plain, "parameter": parameter, "again": one}


def storages(rng):
    """Storages as values: typed ones beside tensors that view them, untyped ones by themselves."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for dtype in rng.sample(CLASSED, 4):
            base = flat(rng, dtype, rng.choice([1, 5, 8]))
            found[str(dtype)] = (base.storage(), view(rng, base), base.storage())
        found["empty"] = torch.empty(0).storage()
    untyped = flat(rng, torch.uint8, rng.choice([1, 7, 40])).untyped_storage()
    return found, [untyped, {"again": untyped}]


def typed_storages(rng):
    return storages(rng)[0]


def values(rng, shape, dtype):
    """Numbers that sparse layouts can be made of; about a third are zero."""
    count = int(torch.Size(shape).numel())
    numbers = [0 if rng.random() < 0.33 else rng.randrange(1, 100) for _ in range(count)]
    return torch.tensor(numbers).reshape(shape).to(dtype)


def coordinates(rng):
    """Sparse tensors by coordinates: hybrid, uncoalesced, empty, with gradients."""
    dtype = rng.choice([torch.float32, torch.float64, torch.int64, torch.complex64, torch.bfloat16, torch.bool])
    shape = [rng.randrange(1, 6) for _ in range(rng.randrange(1, 4))]
    dense = [rng.randrange(0, 4) for _ in range(rng.randrange(0, 3))]
    count = rng.choice([0, 1, 4, 9])
    indices = torch.tensor([[rng.randrange(size) for _ in range(count)] for size in shape]).reshape(len(shape), count)
    tensor = torch.sparse_coo_tensor(indices, values(rng, [count, *dense], dtype), [*shape, *dense])
    found = {"given": tensor, "of_dense": values(rng, (4, 5), dtype).to_sparse(), "empty": torch.sparse_coo_tensor(
        torch.empty(2, 0, dtype=torch.int64), torch.empty(0, 3), (4, 0, 3))}
    if dtype.is_floating_point:
        found["coalesced"] = tensor.coalesce()
        found["graded"] = tensor.detach().clone().requires_grad_()
    shared = torch.arange(6.0)
    place = torch.tensor([[0, 1, 1], [2, 0, 1]])
    found["of_views"] = torch.sparse_coo_tensor(place, shared[1::2], (2, 3), check_invariants=True), shared, place
    return found


def compressed(rng, layout):
    """Compressed rows or columns, plain or in blocks, in batches, with dense dimensions."""
    dtype = rng.choice([torch.float32, torch.float64, torch.int32, torch.complex128, torch.int8])
    blocks = (2, 3) if layout in (torch.sparse_bsr, torch.sparse_bsc) else None
    plain = values(rng, (4, 6), dtype)
    options = {"layout": layout, "blocksize": blocks} if blocks else {"layout": layout}
    found = {"plain": plain.to_sparse(**options), "none": torch.zeros(4, 6, dtype=dtype).to_sparse(**options)}
    # Every batch has elements in the same places.
    batch = torch.stack([plain * factor for factor in range(1, 4)])
    found["batched"] = batch.to_sparse(**options)
    found["twice"] = torch.stack([batch, batch]).to_sparse(**options)
    hybrid = plain.unsqueeze(-1).expand(4, 6, 2).contiguous()
    found["hybrid"] = hybrid.to_sparse(**options, dense_dim=1)
    if not blocks:
        make = torch.sparse_csr_tensor if layout == torch.sparse_csr else torch.sparse_csc_tensor
        pointers = torch.tensor([0, 1, 3], dtype=torch.int32)
        found["int32"] = make(pointers, torch.tensor([1, 0, 1], dtype=torch.int32), torch.randn(3), size=(2, 2))
    if dtype.is_floating_point:
        found["graded"] = found["plain"].detach().clone().requires_grad_()
    return found


def scale(rng):
    return rng.randrange(1, 4096) / 1024


def quantized(rng):
    """Every scheme and type that PyTorch makes, and views."""
    numbers = torch.randn(rng.choice([2, 4]), 8)
    found = {}
    for dtype in (torch.qint8, torch.quint8, torch.qint32):
        tensor = torch.quantize_per_tensor(numbers, scale(rng), rng.randrange(5), dtype)
        found[str(dtype)] = [tensor, tensor.t(), tensor[1], tensor[:, 2:4]]
        axis = rng.randrange(2)
        scales = torch.tensor([scale(rng) for _ in range(numbers.shape[axis])], dtype=torch.float64)
        points = torch.tensor([rng.randrange(9) for _ in scales])
        found[f"{dtype}_channels"] = torch.quantize_per_channel(numbers, scales, points, axis, dtype)
    scales, points = torch.rand(numbers.shape[0]) + 0.1, torch.rand(numbers.shape[0])
    for dtype in (torch.quint8, torch.quint4x2, torch.quint2x4):
        found[f"{dtype}_float"] = torch.quantize_per_channel(numbers, scales, points, 0, dtype)
    channels = found["torch.qint8_channels"]
    found["of_channels"] = [channels[1:], channels[:, 1:], channels.unsqueeze(0), channels[0]]
    images = torch.randn(2, 3, 2, 2).to(memory_format=torch.channels_last)
    images = torch.quantize_per_tensor(images, 0.5, 1, torch.quint8)
    found["images"] = [images, images.expand(2, 2, 3, 2, 2), torch.nn.Parameter(images, requires_grad=False)]
    found["scalar"] = torch.quantize_per_tensor(torch.tensor(1.5), 0.5, 1, torch.quint8)
    found["empty"] = torch.quantize_per_tensor(torch.empty(0, 3), 0.25, 0, torch.qint8)
    return found


def meta(rng):
    """Shapes without data."""
    found = []
    for dtype in rng.sample([*CLASSED, *UNTYPED], 6):
        shape = rng.choice([*SHAPES, (1 << 20, 1 << 20)])
        found.append(graded(rng, torch.empty(shape, dtype=dtype, device="meta")))
    strided = torch.empty(6, 4, device="meta")
    return {"many": found, "views": [strided.t(), strided[::2, 1:], strided.expand(3, 6, 4)],
            "beside": torch.randn(2), "again": found[0]}


def shared(rng):
    """Tensors that are views of each other, whole tensors at several paths, parameters tied."""
    pool = Pool(rng, CLASSED)
    tied = torch.nn.Parameter(torch.randn(4, 3))
    return {"many": [pool.tensor() for _ in range(12)], "tied": [tied, {"of": tied}], "data": tied.data,
            "rows": list(tied.detach()), "bases": pool.bases, "transposed": tied.detach().t()}
