"""Zeros in a network's weights: which, how many of each layer, and what follows without or with training."""

from secateur.pruning.pruning import PruneLog, layer_sparsity, prune, sparsity

__all__ = ["PruneLog", "layer_sparsity", "prune", "sparsity"]
