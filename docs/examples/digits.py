# %% [markdown]
# Handwritten digits: a small convolutional network is trained, pruned to a fifth, put into eight bits, packed, and run
# without PyTorch.

# %%
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import secateur

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
train = DataLoader(TensorDataset(images[:1200], labels[:1200]), 50, shuffle=True)
validation = DataLoader(TensorDataset(images[1200:1500], labels[1200:1500]), 100)
test = DataLoader(TensorDataset(images[1500:], labels[1500:]), 100)

# %% A network as anyone trains it.
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
    nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
)  # fmt: skip
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
for _ in range(4):
    for inputs, target in train:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), target).backward()
        optimizer.step()
model.eval()

# %% Prune at a few ratios, refit what stays, measure, and keep the sparsest that loses at most a point.
task = secateur.Task(train, validation, test, metric="top-1", name="digits")
result = secateur.sweep(model, task, ratios=(0, 0.8), scopes=("global",), quantize="int8", out="runs/digits")
print(result)

# %% The file that is shipped: no PyTorch, no class of the network.
net = secateur.load(result.best[0].packed)
print(net(images[1500:].numpy()).argmax(1)[:10], labels[1500:1510].numpy())
