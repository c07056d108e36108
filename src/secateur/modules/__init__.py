"""A user's nn.Module: run and traced without a trace left in it, its layers and what flows between them."""
