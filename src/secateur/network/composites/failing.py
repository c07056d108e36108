"""How a composite says that there is none."""

from __future__ import annotations

from secateur.errors import GraphError


class CompositeError(GraphError):
    """No operations of a Graph make this. The text goes on where the operation's name ends."""
