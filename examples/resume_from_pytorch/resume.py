"""Trains the network of this example in PyTorch, from where a checkpoint stands, or from scratch where there is none.

    python resume.py checkpoint.pt 10

does ten steps and saves; `cargo run --release --example resume_from_pytorch checkpoint.pt 10` then does the next ten in
Rust, and the other way round. Needs torch.
"""

import pathlib
import sys

import torch
from torch import nn
from torch.nn import functional

TRAINED, BATCH = 1597, 64
STEPS_PER_EPOCH = -(-TRAINED // BATCH)


class Network(nn.Module):
    """Two convolutions and two linear layers, for N x 1 x 8 x 8 images."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * 4 * 4, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = functional.relu(self.conv1(x))
        x = functional.avg_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def batch(digits, step):
    """Returns the images and labels of a step, the same ones as in Rust."""
    epoch, place = step // STEPS_PER_EPOCH, step % STEPS_PER_EPOCH * BATCH
    order = [n * (577 + 2 * epoch) % TRAINED for n in range(place, min(TRAINED, place + BATCH))]
    return digits["images"][order].double().div(16).unsqueeze(1), digits["labels"][order].long()


def main(path, steps):
    digits = torch.load(pathlib.Path(__file__).parent.parent / "digits/digits.pt")
    torch.manual_seed(15)
    # In double precision, so that the losses of both programs can be compared to the last digits.
    model = Network().double()
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=3e-3)
    first = 0
    if path.exists():
        checkpoint = torch.load(path)
        model.load_state_dict(checkpoint["model_state_dict"])
        optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
        first = checkpoint["step"]
    for step in range(first, first + steps):
        images, labels = batch(digits, step)
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1} loss {loss.item():.9f}")
    torch.save({
        "step": first + steps,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "loss": loss.item(),
    }, path)


main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
