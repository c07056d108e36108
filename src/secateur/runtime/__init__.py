"""Load and run a Graph: native kernels, and a NumPy reference that says what is right."""
