"""What a run found, for people and for programs. Needs no PyTorch."""

from secateur.report.records import COLUMNS, record
from secateur.report.runs import load_runs
from secateur.report.tables import FORMATS, render, rich_table

__all__ = ["COLUMNS", "FORMATS", "load_runs", "record", "render", "rich_table"]
