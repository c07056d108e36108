# %% [markdown]
# Sequences: is every closing bracket of a text one of an open bracket? A recurrent network reads it sign by sign; its
# matrices are pruned as layers.

# %%
import torch
from torch import Tensor, nn

import secateur

torch.manual_seed(0)


def texts(count: int, length: int = 8) -> tuple[Tensor, Tensor]:
    """Opening (0) and closing (1) brackets, and whether none closes what is not open; half of the texts end closing."""
    signs = torch.randint(2, (count, length))
    signs[::2, -3:] = 1
    depth = torch.where(signs == 0, 1, -1).cumsum(1)
    return signs, (depth >= 0).all(1).long()


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.signs = nn.Embedding(2, 8)
        self.memory = nn.GRU(8, 32, batch_first=True)
        self.verdict = nn.Linear(32, 2)

    def forward(self, signs: Tensor) -> Tensor:
        seen, _ = self.memory(self.signs(signs))
        verdict: Tensor = self.verdict(seen.mean(1))
        return verdict


# %%
def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    return [texts(50) for _ in range(count)]


train, validation, test = batches(20), batches(6), batches(6)
model = Reader()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for _ in range(6):
    for signs, good in train:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(signs), good).backward()
        optimizer.step()

# %% Embeddings stay whole unless they are named; the three gates of the GRU are pruned.
task = secateur.Task(train, validation, test, metric="top-1", name="brackets")
result = secateur.sweep(model, task, ratios=(0, 0.5), out="runs/brackets")
print(result)

# %%
net = secateur.load(result.best[0].packed)
print(net(test[0][0].numpy()).argmax(1)[:10], test[0][1][:10])
