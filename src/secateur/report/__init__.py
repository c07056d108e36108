"""What a run found, for people and for programs. Needs no PyTorch."""

from secateur.report.grid import as_markdown, as_rich
from secateur.report.records import COLUMNS, record
from secateur.report.remarks import INTERVALS, accuracy_text, caution, points_text, shortfall, verdict
from secateur.report.runs import load_runs
from secateur.report.searches import front_grid, search_grid, search_grids, search_record
from secateur.report.side_by_side import cautions, side_by_side
from secateur.report.study import STUDY_FORMATS, study_grids
from secateur.report.tables import FORMATS, curve_lines, render, rich_table
from secateur.report.writing import write_text

__all__ = [
    "COLUMNS",
    "FORMATS",
    "INTERVALS",
    "STUDY_FORMATS",
    "accuracy_text",
    "as_markdown",
    "as_rich",
    "caution",
    "cautions",
    "curve_lines",
    "front_grid",
    "load_runs",
    "points_text",
    "record",
    "render",
    "rich_table",
    "search_grid",
    "search_grids",
    "search_record",
    "shortfall",
    "side_by_side",
    "study_grids",
    "verdict",
    "write_text",
]
