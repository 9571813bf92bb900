"""Trains the digit classifier that this example runs, and saves it.

Run `python make.py` beside this file (needs torch and scikit-learn; a few
seconds on one CPU core). It writes

* `model.pt`: the network's `state_dict()`, as `torch.save` writes it;
* `digits.pt`: 200 images the network has not seen, their labels, and the
  logits PyTorch computes for them, to compare against.

The images are scikit-learn's 8x8 handwritten digits, scaled to 0..1.
"""

import pathlib

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

HERE = pathlib.Path(__file__).parent
HELD_BACK = 200
EPOCHS = 12
BATCH = 64


class Net(nn.Module):
    """Two convolutions and two linear layers, for N x 1 x 8 x 8 images."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = functional.relu(self.conv1(x))
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def digits():
    """Returns (train images, train labels, held-back images, held-back labels)."""
    data = load_digits()
    images = torch.from_numpy(data.images).float().div(16.0).unsqueeze(1)
    labels = torch.from_numpy(data.target).long()
    order = torch.randperm(len(labels))
    test, train = order[:HELD_BACK], order[HELD_BACK:]
    return images[train], labels[train], images[test], labels[test]


def train(model, images, labels):
    """Trains `model` with Adam and a learning rate that falls to zero."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH):
            # Smoothed labels keep the logits small, and so their rounding errors.
            loss = functional.cross_entropy(model(images[batch]), labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    train_images, train_labels, images, labels = digits()
    model = Net()
    train(model, train_images, train_labels)

    model.eval()
    with torch.no_grad():
        logits = model(images)
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    print(f"accuracy on {HELD_BACK} held-back images: {accuracy:.1%}")
    assert accuracy >= 0.97, "the network learned too little"

    torch.save(model.state_dict(), HERE / "model.pt")
    torch.save({"images": images, "labels": labels, "logits": logits}, HERE / "digits.pt")


if __name__ == "__main__":
    main()
