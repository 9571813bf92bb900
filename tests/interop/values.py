"""Random values without tensors: what stands beside them in checkpoints, and odder things."""

import collections
import struct

import torch

INTEGERS = [0, 1, -1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -2**31, -2**31 - 1, 2**32, 2**53 + 1,
            2**63 - 1, 2**63, -2**63, -2**63 - 1, 2**64 - 1, 2**64, -2**64, 10**40, -(10**40), 2**2039, -2**2039]
FLOATS = [0.0, -0.0, 1.0, -1.5, 0.1, 1e16, 1e15, 1e22, 123456789012345680.0, 1e-4, 1e-5, 1e300, 5e-324, -5e-324,
          2.2250738585072009e-308, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan"), -float("nan")]
ALPHABETS = ["abcdefghijklmnopqrstuvwxyz", "ABC xyz_-.0123456789", "'\"\\`{}[]()", "\0\1\t\n\r\x1b\x7f\x80\x9f\xa0\xad",
             "äöüßéñøłžşğ", "αβγδΩжяшщ", "模型权重梯度カタカナ한글", "😀🚀🧠𝔘𝕏", "\u200b\u2028\ufeff\ue000",
             "e\u0301a\u0308"]
SURROGATES = "\ud800\udbff\udc00\udfff"
LAYOUTS = [torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc,
           torch._mkldnn, torch.jagged]
DTYPES = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)


def integer(rng):
    if rng.random() < 0.5:
        return rng.choice(INTEGERS)
    number = rng.getrandbits(rng.choice([3, 8, 16, 31, 33, 64, 80, 200]))
    return rng.choice([number, -number])


def real(rng):
    if rng.random() < 0.5:
        return rng.choice(FLOATS)
    if rng.random() < 0.5:
        return rng.gauss(0, 1)
    return struct.unpack("<d", rng.randbytes(8))[0]


def text(rng, surrogates=0.05):
    alphabet = rng.choice(ALPHABETS) + (SURROGATES if rng.random() < surrogates else "")
    length = rng.choice([0, 1, 3, 7, 12, 30, 255, 256]) if rng.random() < 0.97 else rng.choice([1000, 65536, 70000])
    return "".join(rng.choices(alphabet, k=length))


def octets(rng):
    length = rng.choice([0, 1, 3, 16, 80, 255, 256, 300]) if rng.random() < 0.97 else rng.choice([1000, 65536, 70000])
    return rng.choice([bytes, bytes, bytearray])(rng.randbytes(length))


def of_torch(rng):
    return rng.choice([
        lambda: torch.Size([rng.randrange(9) for _ in range(rng.randrange(5))]),
        lambda: torch.device(rng.choice(["cpu", "cuda", "cuda:1", "cuda:17", "meta", "mps", "xpu:3"])),
        lambda: rng.choice(DTYPES),
        lambda: rng.choice(LAYOUTS),
    ])()


def scalar(rng):
    kind = rng.choices([integer, real, text, octets, of_torch, None], [6, 5, 7, 1, 2, 4])[0]
    if kind is None:
        return rng.choice([None, True, False, complex(real(rng), real(rng))])
    return kind(rng)


def name(rng):
    """A key as state dicts have them; never a number, and without slashes, so that paths are unambiguous."""
    parts = [rng.choice(["weight", "bias", "layers", "encoder", "block_1", "cpu", "storage", "Größe", "层", "x y"])]
    parts += [str(rng.randrange(12)) for _ in range(rng.randrange(2))]
    return ".".join(parts) + rng.choice(["", "", "_", "\ud83d", "é"])


def key(rng):
    kind = rng.random()
    if kind < 0.75:
        return name(rng)
    if kind < 0.85:
        return rng.choice(INTEGERS)
    return hashable(rng)


def hashable(rng, depth=0):
    choices = [lambda: rng.choice(INTEGERS[:-2]), lambda: rng.choice(FLOATS[1:-2]) + 0.5, lambda: name(rng),
               lambda: None, lambda: rng.random() < 0.5, lambda: rng.randbytes(rng.randrange(1, 6)),
               lambda: 3j + rng.randrange(4)]
    if depth < 2:
        choices.append(lambda: tuple(hashable(rng, depth + 1) for _ in range(rng.randrange(4))))
    return rng.choice(choices)()


class Tree:
    """Grows a random tree. `leaf` gives leaves of other kinds; `frozen` adds what `weights_only` refuses."""

    def __init__(self, rng, leaf=None, frozen=False):
        self.rng, self.leaf, self.frozen = rng, leaf, frozen
        self.made = []  # finished containers, to stand in several places

    def grow(self, depth=4):
        rng, made = self.rng, self.made
        root = self.container(depth)
        if rng.random() < 0.15:
            lists = [value for value in made if isinstance(value, list)]
            if lists:
                rng.choice(lists).append(rng.choice([root, rng.choice(made)]))
        return root

    def value(self, depth):
        rng = self.rng
        if self.made and rng.random() < 0.06:
            return rng.choice(self.made)
        if self.leaf and rng.random() < 0.3:
            return self.leaf()
        return self.container(depth - 1) if depth > 0 and rng.random() < 0.45 else scalar(rng)

    def container(self, depth):
        rng = self.rng
        size = rng.choice([0, 1, 1, 2, 3, 3, 4, 5, 7]) if rng.random() < 0.99 else 1001
        depth = depth if size < 100 else 0
        values = lambda: [self.value(depth) for _ in range(size)]
        mapping = lambda: {key(rng): self.value(depth) for _ in range(size)}
        makers = {
            "dict": mapping,
            "OrderedDict": lambda: self.ordered(mapping()),
            "list": values,
            "tuple": lambda: tuple(values()),
            "set": lambda: {hashable(rng) for _ in range(min(size, 7))},
            "Counter": lambda: collections.Counter({hashable(rng): rng.randrange(99) for _ in range(size)}),
        }
        weights = [6, 4, 5, 4, 1, 1]
        if self.frozen:
            makers |= {
                "frozenset": lambda: frozenset(hashable(rng) for _ in range(min(size, 7))),
                "defaultdict": lambda: collections.defaultdict(rng.choice([None, int, list]), mapping()),
                "deque": lambda: collections.deque(values(), maxlen=rng.choice([None, 2000])),
            }
            weights += [1, 1, 1]
        value = makers[rng.choices(list(makers), weights)[0]]()
        self.made.append(value)
        return value

    def ordered(self, entries):
        value = collections.OrderedDict(entries)
        if self.rng.random() < 0.3:
            value._metadata = collections.OrderedDict({"": {"version": 1}, "sub": {"version": self.rng.randrange(9)}})
        return value


def deep(rng, depth):
    """Containers in containers, deeper than anything a training loop saves."""
    value = scalar(rng)
    for level in range(depth):
        value = rng.choice([[value], (value,), {f"level{level}": value}, collections.OrderedDict(down=value)])
    return value


def batches(rng):
    """Lists and dicts around the sizes at which pickle begins another batch."""
    sizes = [0, 1, 2, 999, 1000, 1001, 2000, 2001]
    return {f"of_{size}": (list(range(size)), {f"k{index}": None for index in range(size)}) for size in sizes}


def memo(rng):
    """More objects than the short opcodes of the memo can number, many of them used again."""
    texts = [f"text number {index}" for index in range(300)]
    tuples = [(text, index) for index, text in enumerate(texts)]
    return [texts, tuples, rng.sample(tuples, 100), rng.sample(texts, 100)]


def odd_keys(rng):
    """Keys that look like paths, and keys that look alike."""
    return {"": 1, "a/b": {"": 2, "/": 3}, "a.b": [4], ".x": 5, "#items": {"#args/0": 6}, "1": "text", 1: "integer",
            -1: "negative", 2.5: "float", None: "none", (): "empty", ("a", 1): "tuple", b"a": "bytes", 2**70: "long",
            "1.0": 7, float("inf"): 8, torch.Size([1]): 9}
