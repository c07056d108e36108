"""What a run found, for people and for programs. Needs no PyTorch."""

from secateur.report.grid import Grid, as_html, as_markdown, as_rich
from secateur.report.printing import Printed
from secateur.report.records import COLUMNS, record
from secateur.report.remarks import caution, intervals, left_dense, points_text, remarks, verdict
from secateur.report.run_page import write_run_page
from secateur.report.runs import load_runs
from secateur.report.searches import front_grid, search_grid, search_grids, search_record
from secateur.report.side_by_side import cautions, side_by_side
from secateur.report.study import STUDY_FORMATS, study_grids
from secateur.report.summary import chosen_rows
from secateur.report.tables import FORMATS, curve_lines, render, rich_table, rows_grid
from secateur.report.writing import write_text

__all__ = [
    "COLUMNS",
    "FORMATS",
    "STUDY_FORMATS",
    "Grid",
    "Printed",
    "as_html",
    "as_markdown",
    "as_rich",
    "caution",
    "cautions",
    "chosen_rows",
    "curve_lines",
    "front_grid",
    "intervals",
    "left_dense",
    "load_runs",
    "points_text",
    "record",
    "remarks",
    "render",
    "rich_table",
    "rows_grid",
    "search_grid",
    "search_grids",
    "search_record",
    "side_by_side",
    "study_grids",
    "verdict",
    "write_run_page",
    "write_text",
]
