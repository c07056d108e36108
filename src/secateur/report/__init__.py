"""What a run found, for people and for programs. Needs no PyTorch."""

from secateur.report.records import COLUMNS, record
from secateur.report.tables import FORMATS, render, rich_table

__all__ = ["COLUMNS", "FORMATS", "record", "render", "rich_table"]
