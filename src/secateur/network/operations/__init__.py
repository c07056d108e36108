"""What there is to compute with: every operation a Graph may have, declared once, in `table.py`."""

from secateur.network.operations.declaration import Held, Operation, Role
from secateur.network.operations.forms import elementwise, pairwise
from secateur.network.operations.ranges import Choice, Flag, Range, Real, Reals, Whole, Wholes
from secateur.network.operations.table import FUNCTIONS, OPERATIONS

__all__ = [
    "FUNCTIONS",
    "OPERATIONS",
    "Choice",
    "Flag",
    "Held",
    "Operation",
    "Range",
    "Real",
    "Reals",
    "Role",
    "Whole",
    "Wholes",
    "elementwise",
    "pairwise",
]
