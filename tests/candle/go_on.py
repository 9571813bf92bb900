"""Goes on where Rust stopped: `python go_on.py FOLDER`, with a CASE.pt of five steps there for each case of the fixtures.

Each is loaded strictly, five more steps are made with the gradients of the fixtures, and all that PyTorch then has is
compared with its own ten steps.
"""

import pathlib
import sys

import torch

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures/optim"
sys.path.insert(0, str(FIXTURES))
import make  # noqa: E402

TOLERANCES = {torch.float64: 1e-14, torch.float32: 1e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}


def close(found, expected, what):
    assert found.dtype == expected.dtype and found.shape == expected.shape, what
    far = (found.double() - expected.double()).abs() > TOLERANCES[found.dtype] * expected.double().abs()
    assert not far.any(), f"{what}: {found[far]} is not {expected[far]}"


def check(folder, case):
    kind, dtype, options = make.CASES[case]
    start, gradients = make.given(dtype)
    parameters = {name: torch.nn.Parameter(it.clone()) for name, it in make.convert(start, dtype).items()}
    optimizer = getattr(torch.optim, kind)(make.groups(case, parameters), **options)

    saved = torch.load(folder / f"{case}.pt", weights_only=True)
    module = torch.nn.Module()
    for name, parameter in parameters.items():
        module.register_parameter(name.replace(".", "_"), parameter)
    module.load_state_dict({name.replace(".", "_"): it for name, it in saved["model_state_dict"].items()}, strict=True)
    optimizer.load_state_dict(saved["optimizer_state_dict"])
    for given in gradients[5:]:
        given = make.convert(given, dtype)
        for name, parameter in parameters.items():
            parameter.grad = given.get(name)
        optimizer.step()

    expected = torch.load(FIXTURES / f"{case}_ten.pt", weights_only=True)
    for name, parameter in parameters.items():
        close(parameter.detach(), expected["model_state_dict"][name], f"{case} {name}")
    found, expected = optimizer.state_dict(), expected["optimizer_state_dict"]
    assert found["param_groups"] == expected["param_groups"], case
    assert list(found["state"]) == list(expected["state"]), case
    for place, state in expected["state"].items():
        assert list(found["state"][place]) == list(state), case
        for key, tensor in state.items():
            if tensor is not None:
                close(found["state"][place][key], tensor, f"{case} {place} {key}")


folder = pathlib.Path(sys.argv[1])
cases = sorted(path.stem for path in folder.glob("*.pt"))
for case in cases:
    check(folder, case)
print(len(cases))
