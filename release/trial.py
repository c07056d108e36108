"""Does an installed package run networks? `python release/trial.py tests/golden`: without PyTorch and this checkout."""

import importlib.util
import sys
from pathlib import Path

import numpy as np

import secateur
from secateur import packfile
from secateur.runtime import reference


def check(path: Path) -> str:
    """Run a packed network here and by what its operations mean; the kernel that ran it. Raises where they differ."""
    graph, session = packfile.read(path), secateur.load(path)
    x = np.random.default_rng(0).normal(size=(3, *graph.inputs["x"])).astype(np.float32)
    np.testing.assert_allclose(session(x), reference.run(graph, x), rtol=1e-4, atol=1e-4)
    return session.kernel


def main() -> None:
    assert importlib.util.find_spec("torch") is None, "this is a trial without PyTorch"
    names = ("1.0-exact", "1.0-steps", "1.1-functions", "1.2-quantised")
    (kernel,) = {check(Path(sys.argv[1]) / f"{name}.secateur") for name in names}
    python = sys.version.split()[0]
    print(f"  secateur {secateur.__version__} runs on Python {python}, NumPy {np.__version__}, kernel {kernel}")


if __name__ == "__main__":
    main()
