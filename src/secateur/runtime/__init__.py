"""Load and run a Graph: native kernels, and a NumPy reference that says what is right."""

from secateur.runtime.calibration import Costs
from secateur.runtime.engine import Engine
from secateur.runtime.loading import load
from secateur.runtime.normalisation import Normalisation
from secateur.runtime.session import (
    MOST_IMAGES,
    MOST_THREADS,
    Plan,
    PlanStep,
    Session,
    available_kernels,
    has_dot_products,
)

__all__ = [
    "MOST_IMAGES",
    "MOST_THREADS",
    "Costs",
    "Engine",
    "Normalisation",
    "Plan",
    "PlanStep",
    "Session",
    "available_kernels",
    "has_dot_products",
    "load",
]
