"""The network, the data of a client, one pass of training, and the test."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy, max_pool2d, relu
from torch.utils.data import DataLoader, TensorDataset

HELD_OUT = 360


class Net(nn.Module):
    """Two convolutions and two linear layers, for images of 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 2 * 2, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = max_pool2d(relu(self.conv1(x)), 2)
        x = max_pool2d(relu(self.conv2(x)), 2)
        return self.fc2(relu(self.fc1(x.flatten(1))))


def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    scaled = torch.tensor(images[order] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return scaled, torch.tensor(labels[order], dtype=torch.int64)


def load_data(partition_id: int, num_partitions: int, batch_size: int) -> tuple[DataLoader, DataLoader]:
    """A client's own images in batches: four fifths to train on, one fifth to test on."""
    images, labels = (part[:-HELD_OUT][partition_id::num_partitions] for part in _digits())
    cut = len(labels) * 4 // 5
    train_set, test_set = TensorDataset(images[:cut], labels[:cut]), TensorDataset(images[cut:], labels[cut:])
    return DataLoader(train_set, batch_size, shuffle=True), DataLoader(test_set, batch_size)


def load_held_out() -> DataLoader:
    """Images that no client has."""
    images, labels = _digits()
    return DataLoader(TensorDataset(images[-HELD_OUT:], labels[-HELD_OUT:]), batch_size=128)


def train(net: nn.Module, batches: DataLoader, epochs: int, lr: float) -> float:
    """Train in place; returns the mean loss of the batches."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    losses = []
    for _ in range(epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            loss = cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return sum(losses) / len(losses)


def test(net: nn.Module, batches: DataLoader) -> tuple[float, float]:
    """Mean loss, and the share of images that are recognised."""
    net.eval()
    loss, right, count = 0.0, 0, 0
    with torch.no_grad():
        for images, labels in batches:
            outputs = net(images)
            loss += cross_entropy(outputs, labels, reduction="sum").item()
            right += int((outputs.argmax(1) == labels).sum())
            count += len(labels)
    return loss / count, right / count
