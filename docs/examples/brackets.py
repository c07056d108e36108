# %% [markdown]
# # Sequences: do the brackets fit?
#
# `(()` and `()()` are fine, `())(` is not: a bracket closes that was never opened. A recurrent network reads such a
# text sign by sign and keeps in mind what it saw. Its memory is made of weight matrices like any other layer's, and
# they are pruned like those.
#
# ## The data
#
# Texts of eight signs, made by chance; an opening bracket is 0, a closing one 1.

# %%
import torch
from torch import Tensor, nn

import secateur

torch.manual_seed(0)


def texts(count: int, length: int = 8) -> tuple[Tensor, Tensor]:
    """Texts, and whether none closes what is not open; half of them end with three that close."""
    signs = torch.randint(2, (count, length))
    signs[::2, -3:] = 1
    depth = torch.where(signs == 0, 1, -1).cumsum(1)
    return signs, (depth >= 0).all(1).long()


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    return [texts(50) for _ in range(count)]


train, validation, test = batches(20), batches(6), batches(6)

# %% [markdown]
# ## The network
#
# Signs become vectors, a GRU reads them, and a last layer says yes or no.


# %%
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


model = Reader()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for _ in range(6):
    for signs, good in train:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(signs), good).backward()
        optimizer.step()

# %% [markdown]
# ## Prune it
#
# Plain lists of batches are a task too; any iterable is. The matrices of the GRU lose half of their weights.
# Embeddings, which are tables to look things up in, stay whole unless you name them.

# %%
task = secateur.Task(train, validation, test, metric="top-1", name="brackets")
result = secateur.sweep(model, task, ratios=(0, 0.5), out="runs/brackets")
print(result)

# %% [markdown]
# ## Use it

# %%
net = secateur.load(result.best[0].packed)
print("said:", net(test[0][0].numpy()).argmax(1)[:10])
print("true:", test[0][1][:10].numpy())
