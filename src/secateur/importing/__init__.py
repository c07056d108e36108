"""Networks from elsewhere: through PyTorch's ATen operations, from files of weights."""
