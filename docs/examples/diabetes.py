# %% [markdown]
# # A table: how will a disease go on?
#
# Networks of tables are small, but they often run once for every request of a service, one row at a time. Then every
# weight costs time, and zeros save it. The metric here is no accuracy: pruning needs only to know what you call good.
#
# ## The data
#
# 442 patients with ten numbers each (age, blood pressure, …), and how far their diabetes had gone a year later.

# %%
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import secateur

torch.manual_seed(0)
table = load_diabetes()
rows = torch.tensor(table.data, dtype=torch.float32) * 20  # one standard deviation
wanted = torch.tensor(table.target, dtype=torch.float32)[:, None] / 100
train = DataLoader(TensorDataset(rows[:300], wanted[:300]), 30, shuffle=True)
validation = DataLoader(TensorDataset(rows[300:370], wanted[300:370]), 70)
test = DataLoader(TensorDataset(rows[370:], wanted[370:]), 72)

# %% [markdown]
# ## The network
#
# Two hidden layers: far more weights than 300 patients can fill, as is usual.

# %%
model = nn.Sequential(
    nn.Linear(10, 128),
    nn.ReLU(),
    nn.Linear(128, 128),
    nn.ReLU(),
    nn.Linear(128, 1),
)
optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1)
for _ in range(15):
    for inputs, target in train:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), target).backward()
        optimizer.step()

# %% [markdown]
# ## Prune it
#
# R² says how much of the differences between patients the network foretells: 1 is all, 0 is none. A point of it is a
# hundredth. `global` lets all layers compete for the weights that stay, instead of taking the same share of each.
# With so few patients the results differ by some points from chance alone, so a look at all rows is worth more than
# the one marked *best*.

# %%
task = secateur.Task(
    train,
    validation,
    test,
    loss=nn.functional.mse_loss,
    metric="r2",
    name="diabetes",
)
result = secateur.sweep(
    model,
    task,
    ratios=(0, 0.5, 0.9),
    scopes=("global",),
    out="runs/diabetes",
)
print(result)

# %% [markdown]
# ## One patient at a time
#
# As in a service: a row goes in, a number comes out.

# %%
net = secateur.load(result.best[0].packed)
print("foretold:", net(rows[:1].numpy()).item(), " came:", wanted[0].item())
