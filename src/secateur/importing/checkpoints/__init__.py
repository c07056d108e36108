"""Checkpoints as people have them: read without running anything in them, and fitted to a network."""

from secateur.importing.checkpoints.files import Contents, read_contents, read_weights_file
from secateur.importing.checkpoints.loading import classes_of, entries_of, load_weights

__all__ = ["Contents", "classes_of", "entries_of", "load_weights", "read_contents", "read_weights_file"]
