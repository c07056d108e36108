# %% [markdown]
# A table: ten numbers of each patient, from which a perceptron foretells how a disease goes on. The metric is R².

# %%
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import secateur

torch.manual_seed(0)
table = load_diabetes()
rows = torch.tensor(table.data, dtype=torch.float32) * 20  # about one standard deviation
wanted = torch.tensor(table.target, dtype=torch.float32)[:, None] / 100
train = DataLoader(TensorDataset(rows[:300], wanted[:300]), 30, shuffle=True)
validation = DataLoader(TensorDataset(rows[300:370], wanted[300:370]), 70)
test = DataLoader(TensorDataset(rows[370:], wanted[370:]), 72)

# %%
model = nn.Sequential(nn.Linear(10, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1)
for _ in range(15):
    for inputs, target in train:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), target).backward()
        optimizer.step()

# %% A point of R² is a hundredth. The loss is for the repair and for retraining, the metric for choosing.
task = secateur.Task(train, validation, test, loss=nn.functional.mse_loss, metric="r2", name="diabetes")
result = secateur.sweep(model, task, ratios=(0, 0.5, 0.9), scopes=("global",), out="runs/diabetes")
print(result)

# %% One patient at a time, in a service.
net = secateur.load(result.best[0].packed)
print(net(rows[:1].numpy()), wanted[:1])
