"""What a run found, for people and for programs. Needs no PyTorch."""

from secateur.report.grid import as_rich
from secateur.report.records import COLUMNS, record
from secateur.report.runs import load_runs
from secateur.report.study import STUDY_FORMATS, study_grids
from secateur.report.tables import FORMATS, curve_lines, render, rich_table
from secateur.report.writing import write_text

__all__ = [
    "COLUMNS",
    "FORMATS",
    "STUDY_FORMATS",
    "as_rich",
    "curve_lines",
    "load_runs",
    "record",
    "render",
    "rich_table",
    "study_grids",
    "write_text",
]
