"""What training loops save: state dicts of modules, optimizers and schedulers, random states, whole modules."""

import argparse
import collections
import copy
import dataclasses
import datetime
import enum
import functools
import pathlib
import random

import numpy
import torch
from torch import nn
from torch.optim import lr_scheduler


def tied():
    """An embedding and a projection that share their weight."""
    embedding, projection = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
    projection.weight = embedding.weight
    return nn.ModuleDict({"embedding": embedding, "projection": projection})


MODULES = {
    "linear": lambda: nn.Linear(5, 3),
    "linear_bfloat16": lambda: nn.Linear(4, 4, dtype=torch.bfloat16),
    "linear_meta": lambda: nn.Linear(6, 2, device="meta"),
    "conv": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv1d(4, 8, 1)),
    "conv_channels_last": lambda: nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last),
    "transposed": lambda: nn.ConvTranspose3d(2, 3, 2),
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2),
    "gru": lambda: nn.GRU(3, 2),
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, 16),
    "attention": lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=4, add_bias_kv=True),
    "embedding": lambda: nn.Sequential(nn.Embedding(11, 3, padding_idx=0), nn.EmbeddingBag(5, 3)),
    "norms": lambda: nn.ModuleList([nn.LayerNorm((2, 3)), nn.GroupNorm(2, 4), nn.InstanceNorm1d(3, affine=True),
                                    nn.RMSNorm(4), nn.BatchNorm1d(3, track_running_stats=False)]),
    "bilinear": lambda: nn.Bilinear(2, 3, 4),
    "parameters": lambda: nn.ParameterDict({"a": nn.Parameter(torch.randn(2, dtype=torch.cfloat)), "b": torch.ones(1)}),
    "parametrized": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
    "tied": tied,
    "half": lambda: nn.Sequential(nn.Linear(3, 3), nn.PReLU()).half(),
}

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adam_tensor_lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)),
    "adamw_amsgrad": lambda p: torch.optim.AdamW(p, amsgrad=True, betas=(0.8, 0.99)),
    "adamax": lambda p: torch.optim.Adamax(p),
    "nadam": lambda p: torch.optim.NAdam(p),
    "radam": lambda p: torch.optim.RAdam(p),
    "adagrad": lambda p: torch.optim.Adagrad(p),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "rmsprop": lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.5),
    "rprop": lambda p: torch.optim.Rprop(p),
    "asgd": lambda p: torch.optim.ASGD(p),
    "adafactor": lambda p: torch.optim.Adafactor(p),
    "lbfgs": lambda p: torch.optim.LBFGS(p, history_size=3, line_search_fn="strong_wolfe"),
}

SCHEDULERS = {
    "step": lambda o: lr_scheduler.StepLR(o, 2),
    "multi_step": lambda o: lr_scheduler.MultiStepLR(o, [1, 3, 3, 5]),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "warm_restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1),
    "one_cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.95**epoch),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1), lr_scheduler.LinearLR(o)], milestones=[2]),
    "chained": lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(o, 1), lr_scheduler.ExponentialLR(o, 0.5)]),
}


def trained(optimizer, steps=3):
    """A small model and its optimizer after some steps."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 1))
    groups = [{"params": model[0].parameters()}, {"params": model[3].parameters(), "lr": 0.05}]
    made = OPTIMIZERS[optimizer](list(model.parameters()) if optimizer == "lbfgs" else groups)

    def closure():
        made.zero_grad()
        loss = model(torch.randn(6, 4)).square().mean()
        loss.backward()
        return loss

    for _ in range(steps):
        made.step(closure)
    return model, made


def optimizer(name):
    return trained(name)[1].state_dict()


def scheduler(name):
    optimizer = trained("sgd_momentum", 1)[1]
    made = SCHEDULERS[name](optimizer)
    for epoch in range(3):
        optimizer.step()
        made.step(*[0.5] if name == "plateau" else [])
    return {"scheduler": made.state_dict(), "optimizer": optimizer.state_dict()}


def checkpoint(rng):
    """Everything that a loop needs to go on."""
    model, optimizer = trained(rng.choice(["adam", "adamw_amsgrad", "sgd_momentum"]))
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 10)
    return {
        "epoch": rng.randrange(100), "global_step": rng.getrandbits(40), "best": rng.random(),
        "model_state_dict": model.state_dict(), "ema": copy.deepcopy(model).half().state_dict(),
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [scheduler.state_dict()],
        "rng": {"torch": torch.get_rng_state(), "python": random.Random(rng.random()).getstate()},
        "hparams": {"lr": 1e-3, "layers": [64, 32], "name": "run", "amp": True, "clip": None,
                    "shape": torch.Size([3, 4])},
        "parameters": list(model.parameters()),
    }


def rng_states():
    return {"torch": torch.get_rng_state(), "python": random.getstate(), "seed": torch.initial_seed(),
            "generator": torch.Generator().manual_seed(7).get_state()}


class Block(nn.Module):
    """A module of a project's own, with all that modules hold."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        self.register_buffer("mask", torch.tril(torch.ones(3, 3)))
        self.register_buffer("cache", torch.zeros(2), persistent=False)
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)
        self.config = {"width": 3, "device": torch.device("cpu"), "dtype": torch.float16}
        self.head = self.body[0]
        self.steps = (1, 2.5, None)


class Colour(enum.Enum):
    RED = "red"
    BLUE = (1, 2)


@dataclasses.dataclass
class Settings:
    rate: float
    weights: torch.Tensor
    tags: set


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self, left, right):
        self.left, self.right = left, right


class Stateful:
    """Gives a state that is no dict."""

    def __init__(self, state):
        self.given = state

    def __getstate__(self):
        return self.given

    def __setstate__(self, state):
        self.given = state


class Named:
    """Is made by keywords."""

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.made_of = args, kwargs
        return self

    def __getnewargs_ex__(self):
        return self.made_of


class Keyed(dict):
    pass


class Listed(list):
    pass


Point = collections.namedtuple("Point", "x y")


def function(argument):
    return argument


def objects():
    """Instances of classes that nobody allows, and how else Python pickles things."""
    weight = torch.arange(4.0)
    keyed, listed = Keyed(a=weight, b=[1]), Listed([weight[1:], "text"])
    keyed.note, listed.note = "on a dict", weight[:1]
    return {
        "settings": Settings(0.1, weight, {"x"}), "point": Point(weight[2:], 2), "colours": [Colour.RED, Colour.BLUE],
        "slotted": Slotted(weight, None), "stateful": [Stateful([weight, 1]), Stateful(5), Stateful({"w": weight})],
        "keyed": keyed, "listed": listed, "function": function, "class": Settings, "method": keyed.get,
        "range": range(3, 30, 4), "slice": slice(None, 3), "builtins": [len, int, object, NotImplemented, ...],
        "error": ValueError("text", 3), "classes": {Settings: 1, Colour: weight},
        "generator": torch.Generator().manual_seed(3), "fine": [weight, {"last": 1}],
    }


def keywords():
    """`__getnewargs_ex__`, which needs protocol 2."""
    weight = torch.ones(2)
    return [Named(1, weight, rate=0.5, weight=weight), weight]


def numpy_values(rng):
    """Arrays and scalars, of which this project's tests say little here."""
    generator = numpy.random.default_rng(rng.getrandbits(32))
    array = generator.normal(size=(3, 4))
    return {
        "arrays": [array, array.T, array[1:, ::2], array.astype("float16"), array > 0, array.astype(">i4"),
                   numpy.array(["a", "bcd"]), numpy.array([b"x"]), numpy.array([1, "two", None], dtype=object),
                   numpy.zeros((0, 3)), numpy.array(5), numpy.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
                   numpy.array(["2024-01-01"], dtype="datetime64[D]"), array * 1j, numpy.asfortranarray(array)],
        "scalars": [numpy.float64(0.1), numpy.float32(2.5), numpy.int64(-3), numpy.bool_(True), numpy.str_("text"),
                    numpy.complex64(1j), numpy.uint8(7)],
        "state": numpy.random.RandomState(rng.getrandbits(31)).get_state(), "beside": torch.ones(2), "epoch": 3,
    }


def standard_library():
    """Values of Python's own classes."""
    moment = datetime.datetime(2024, 2, 29, 23, 59, 58, 999999, tzinfo=datetime.timezone.utc)
    return {
        "times": [moment, moment.date(), moment.time(), datetime.timedelta(days=-1, seconds=5)],
        "paths": [pathlib.PurePosixPath("/a/b.txt"), pathlib.PurePosixPath("relative")],
        "namespace": argparse.Namespace(lr=0.1, layers=[1, 2]), "partial": functools.partial(int, base=2),
        "beside": torch.ones(2), "epoch": 3,
    }


def nested():
    """Nested tensors in both layouts."""
    parts = [torch.randn(2, 3), torch.randn(4, 3)]
    return {"strided": torch.nested.nested_tensor(parts),
            "jagged": torch.nested.nested_tensor(parts, layout=torch.jagged), "beside": parts[0]}


def distributed():
    """A tensor that is spread over devices, of which there is one."""
    import torch.distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        return {"sharded": distribute_tensor(torch.randn(4, 2), mesh, [Shard(0)]), "beside": torch.ones(2)}
    finally:
        torch.distributed.destroy_process_group()


class Scripted(nn.Module):
    """For TorchScript: parameters, buffers, attributes and constants."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Sequential(nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2))
        self.register_buffer("table", torch.arange(6).reshape(2, 3))
        self.factor = 2.5
        self.names = ["a", "b"]

    def forward(self, x):
        return self.first(x) * self.factor + torch.tensor([1.0, 2.0, 3.0, 4.0])


PROGRAMS = {"scripted": Scripted, "scripted_half": lambda: Scripted().half(),
            "scripted_lstm": lambda: nn.LSTM(3, 4), "scripted_linear": lambda: nn.Linear(2, 2, bias=False)}
