"""Every exception that Secateur raises on purpose. All derive from SecateurError.

A message is one line: the place, what was expected, what came, the next step.
"""

from __future__ import annotations

import warnings

from secateur.escaping import one_line


class SecateurError(Exception):
    """Something that the caller can mend; its text says how. Names in it may be a stranger's: it is printed escaped."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class UsageError(SecateurError):
    """A value that was asked for makes no sense: a ratio of 1.5, an unknown network. Exit code 2."""


class MissingExtraError(SecateurError, ImportError):
    """A feature needs a library that is not installed; the text names the extra that brings it."""


class CallableError(SecateurError):
    """What "package.module:callable" names cannot be imported, or is no callable."""


class ModelError(SecateurError):
    """A network cannot be built, or a checkpoint does not fit it."""


class DataError(SecateurError):
    """A data set is absent or damaged, or does not fit the network."""


class SpaceError(SecateurError):
    """The disk is full; what was being written was left as it was before."""


class DamageError(SecateurError):
    """A file that Secateur wrote is not what it wrote."""


class TrainingError(SecateurError):
    """Training cannot go on: the loss is no longer a number."""


class PruneError(SecateurError):
    """Weights cannot be pruned as asked; the network is as it was."""


class PruneWarning(UserWarning):
    """Weights that one might take for pruned are not: they stayed dense, or their zeros do not survive a forward.

    Shown where all warnings were switched off before, too; warnings.simplefilter("ignore", PruneWarning) silences it.
    """


warnings.simplefilter("default", PruneWarning)


class ShrinkError(SecateurError):
    """A network cannot be made smaller as asked; it is as it was."""


class StoreError(SecateurError):
    """A run folder's database is missing, unreadable or of another schema."""


class ReportError(SecateurError):
    """There is nothing to report, or what there is cannot be laid side by side."""


class SweepError(SecateurError):
    """A sweep could not start, or ended with failed cells."""


class SearchError(SecateurError):
    """A search cannot start or go on: the folder is another's, or the target cannot be measured."""


class GraphError(SecateurError):
    """A network's graph is inconsistent: a shape, an attribute or a name is wrong."""


class ExportError(SecateurError):
    """A network cannot become a Graph; the text names the module and the operation."""


class PackError(SecateurError):
    """A network cannot be packed: the file exists or cannot be written, or does not compute what the network does."""


class QuantiseError(SecateurError):
    """A network cannot be held in eight bits as asked: calibration data that does not fit, or nothing to quantise."""


class FormatError(SecateurError):
    """A .secateur file is damaged, of another version, or not one at all."""


class RunError(SecateurError):
    """A packed network cannot be run as asked: shape, dtype, threads or kernel."""


class BenchError(SecateurError):
    """Engines cannot be compared: they compute different things."""
