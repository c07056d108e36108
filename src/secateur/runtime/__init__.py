"""Load and run a Graph: native kernels, and a NumPy reference that says what is right."""

from secateur.runtime.loading import load
from secateur.runtime.normalisation import Normalisation
from secateur.runtime.session import Plan, PlanStep, Session, available_kernels

__all__ = ["Normalisation", "Plan", "PlanStep", "Session", "available_kernels", "load"]
