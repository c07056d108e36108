# %% [markdown]
# # Images: handwritten digits
#
# A trained network holds thousands of weights, and most of them hardly matter. *Pruning* sets those to zero. The file
# gets smaller, and a runtime that skips zeros gets faster. Here a small network learns to read digits, four fifths of
# its weights go, and what is left is shipped in eight bits, without PyTorch.
#
# ## The data
#
# 1,797 pictures of 8 × 8 pixels, in three parts. The network learns from the first. The second chooses between pruned
# networks. The third is touched only at the end, so that it tells the truth about what was chosen.

# %%
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import secateur

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
everything = TensorDataset(images, labels)
train = DataLoader(Subset(everything, range(1200)), 50, shuffle=True)
validation = DataLoader(Subset(everything, range(1200, 1500)), 100)
test = DataLoader(Subset(everything, range(1500, 1797)), 100)

# %% [markdown]
# ## A network, as anyone trains it
#
# Nothing in it knows of pruning.

# %%
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(512, 64),
    nn.ReLU(),
    nn.Linear(64, 10),
)
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
for _ in range(4):
    for inputs, target in train:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), target).backward()
        optimizer.step()
model = model.eval()

# %% [markdown]
# ## Prune it
#
# A *task* is the data and what counts as good: `top-1` is the share of pictures that are named right. A *sweep*
# prunes a copy of the network once for each ratio. The smallest weights go; those that stay are refitted, so that
# each layer still gives what it gave before. `int8` stores and computes in eight bits instead of 32. The row marked
# *best* has the most zeros among those that lose at most one point on the validation part.

# %%
task = secateur.Task(train, validation, test, metric="top-1", name="digits")
result = secateur.sweep(
    model,
    task,
    ratios=(0, 0.8),
    scopes=("global",),
    quantize="int8",
    out="runs/digits",
)
print(result)

# %% [markdown]
# ## Ship it
#
# The file is the whole network: what runs it needs neither PyTorch nor the lines above. A network this small spends
# most of its time on being called, so zeros save bytes here and hardly any time; larger ones gain both.

# %%
net = secateur.load(result.best[0].packed)
print("read:   ", net(images[1500:].numpy()).argmax(1)[:10])
print("written:", labels[1500:1510].numpy())
