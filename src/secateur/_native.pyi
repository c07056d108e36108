"""The C++ core (native/bindings)."""

def kernels() -> list[str]:
    """Names of the kernels that this processor can run, fastest first; "scalar" is always among them."""
