"""A network without PyTorch, and what is made of it: values, operations, simplification, limits."""
