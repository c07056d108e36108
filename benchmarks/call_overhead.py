"""What a call of a Session costs beside computing: `python benchmarks/call_overhead.py`.

The network is one ReLU on four numbers, so that nearly all of a call is overhead: Python, checks, the output's array,
the way into the native core and back.
"""

from __future__ import annotations

import platform
import timeit
from collections.abc import Callable

import numpy as np

from secateur.measure.timing import median_interval, on_cores
from secateur.network.graph import Graph, Node
from secateur.runtime import Session

CALLS, SAMPLES = 2000, 101


def main() -> None:
    session = Session(Graph({"x": (4,)}, ("relu",), (Node("relu", "relu", ("x",), {}, {}, (4,)),), {}))
    x, out = np.ones((1, 4), np.float32), np.empty((1, 4), np.float32)
    calls: dict[str, Callable[[], object]] = {
        "session(x)": lambda: session(x),
        "session(x, out=out)": lambda: session(x, out=out),
        "np.maximum(x, 0, out=out)": lambda: np.maximum(x, 0, out=out),
        "nothing": lambda: None,
    }
    print(f"Python {platform.python_version()}, NumPy {np.__version__}; medians of {SAMPLES} × {CALLS} calls in turns")
    with on_cores(1):
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(SAMPLES):
            for name, call in calls.items():
                times[name].append(1e6 * timeit.timeit(call, number=CALLS) / CALLS)
    for name, values in times.items():
        low, middle, high = median_interval(values)
        print(f"{name:<28}{middle:>6.2f} µs  ({low:.2f} – {high:.2f})")


if __name__ == "__main__":
    main()
