"""Writes `digits.pt`: scikit-learn's 1797 handwritten digits, 8x8 pixels from 0 to 16, and their labels, shuffled.

Run `python make.py` beside this file (needs torch and scikit-learn).
"""

import pathlib

import torch
from sklearn.datasets import load_digits

data = load_digits()
order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
digits = {"images": torch.from_numpy(data.images)[order], "labels": torch.from_numpy(data.target)[order]}
torch.save({name: it.to(torch.uint8) for name, it in digits.items()}, pathlib.Path(__file__).parent / "digits.pt")
