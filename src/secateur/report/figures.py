"""The report's charts, made with plotly; colours that follow the page's theme are set by the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from secateur.report.summary import Curve, pareto_front
from secateur.results import Row

PALETTE = ("#3b7dd8", "#d9622b", "#2b9a66", "#a253c6", "#c2971b", "#c43d6b", "#1897a6", "#7a6a58")
"""Chosen to be told apart on white and on near-black, and in grey when printed with their dashes."""

LEVEL = {"dash": "dot", "width": 1, "color": "#888"}
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with what a reader needs to read it. ratio_axis: the page offers density on a log axis."""

    key: str
    title: str
    about: str
    figure: go.Figure
    ratio_axis: bool = False


def accuracy_chart(key: str, title: str, curves: Sequence[Curve]) -> Chart:
    """Test accuracy over ratio: a line per way of pruning, seeds as a band, the dense level dotted."""
    figure = go.Figure()
    for number, curve in enumerate(curves):
        colour, dash = PALETTE[number % len(PALETTE)], DASHES[number // len(PALETTE) % len(DASHES)]
        _add_band(figure, curve, colour, str(number))
        figure.add_scatter(
            x=[point.ratio for point in curve.points],
            y=[point.accuracy.mean for point in curve.points],
            customdata=[[point.density, point.accuracy.n] for point in curve.points],
            name=curve_name(curve, curves),
            legendgroup=str(number),
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2.5},
            marker={"size": 7},
            hovertemplate="%{y:.2%} at %{x:.0%} pruned<br>density %{customdata[0]:.1%}, n = %{customdata[1]}",
        )
    for dense in sorted({curve.dense.mean for curve in curves}):
        figure.add_hline(y=dense, line=LEVEL, annotation_text=f"dense {dense:.2%}", annotation_position="bottom left")
    _finish(figure, "pruned share of each layer's weights (ratio)", "accuracy on test data")
    figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    about = "Lines are means over seeds; a band is their 95 % confidence interval (Student's t)."
    return Chart(key, title, about, figure, ratio_axis=True)


def _add_band(figure: go.Figure, curve: Curve, colour: str, group: str) -> None:
    spreads = [point.accuracy for point in curve.points]
    if any(each.low is None for each in spreads):
        return
    ratios = [point.ratio for point in curve.points]
    low, high = [each.low for each in spreads], [each.high for each in spreads]
    density = [[point.density, 0] for point in curve.points]
    figure.add_scatter(
        x=ratios + ratios[::-1],
        y=high + low[::-1],
        customdata=density + density[::-1],
        fill="toself",
        fillcolor=colour,
        opacity=0.18,
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=group,
    )


def curve_name(curve: Curve, among: Sequence[Curve]) -> str:
    """What tells a curve from the others beside it."""
    parts = [
        str(getattr(curve, field))
        for field in ("run", "method", "scope")
        if len({getattr(each, field) for each in among}) > 1
    ]
    parts += [
        f"{name} {value}"
        for position, (name, value) in enumerate(curve.settings)
        if len({each.settings[position] for each in among}) > 1
    ]
    return ", ".join(parts) or f"{curve.method}, {curve.scope}"


def layers_chart(key: str, title: str, rows: Sequence[Row]) -> Chart:
    """Sparsity of every layer at every ratio of one curve and seed, as a map."""
    names = [layer.name for layer in rows[0].layers]
    figure = go.Figure(
        go.Heatmap(
            x=[f"{100 * row.cell.ratio:g} %" for row in rows],
            y=names,
            z=[[row.layers[position].sparsity for row in rows] for position in range(len(names))],
            zmin=0,
            zmax=1,
            colorscale=[[0, "#f3efe6"], [0.5, "#7fb69a"], [1, "#14503a"]],
            colorbar={"tickformat": ".0%", "title": {"text": "zeros"}, "thickness": 14},
            hovertemplate="%{y} at %{x}: %{z:.1%} zeros<extra></extra>",
            xgap=1,
            ygap=1,
        )
    )
    _finish(figure, "ratio", "", height=max(260, 120 + 20 * len(names)))
    figure.update_xaxes(type="category")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return Chart(key, title, "The share of zeros in each layer, in the order in which the layers run.", figure)


def macs_chart(key: str, title: str, row: Row) -> Chart:
    """Where the multiply-adds are: those of non-zero weights, and those that zeros make needless."""
    names = [layer.name for layer in row.layers]
    figure = go.Figure()
    kept = [layer.nonzero_macs for layer in row.layers]
    needless = [layer.macs - layer.nonzero_macs for layer in row.layers]
    for name, values, colour in (("non-zero weights", kept, "#2b9a66"), ("zeros", needless, "#c9c2b4")):
        figure.add_bar(
            y=names, x=values, name=name, orientation="h", marker={"color": colour}, hovertemplate="%{x:.3s}"
        )
    _finish(figure, "multiply-adds of one image", "", height=max(260, 140 + 20 * len(names)))
    figure.update_layout(barmode="stack", bargap=0.25)
    figure.update_yaxes(autorange="reversed", automargin=True)
    share = row.nonzero_macs / row.macs if row.macs else 0
    about = (
        f"At {row.cell.ratio:.0%} (scope {row.cell.scope}), {share:.1%} of the multiply-adds have a non-zero weight."
    )
    return Chart(key, title, about, figure)


def cost_chart(key: str, title: str, rows: Sequence[Row], cost: str) -> Chart:
    """Test accuracy against saved bytes or latency, a point per row, the Pareto front as a line."""
    value, axis, hover = _COSTS[cost]
    known = [row for row in rows if value(row) is not None]
    front = pareto_front(known, lambda row: value(row) or 0.0)
    figure = go.Figure()
    figure.add_scatter(
        x=[value(row) for row in known],
        y=[row.test.top1 for row in known],
        text=[row.cell.describe() for row in known],
        mode="markers",
        name="measured",
        marker={"size": 9, "color": [row.sparsity for row in known], "colorscale": "Viridis", "cmin": 0, "cmax": 1,
                "colorbar": {"title": {"text": "zeros"}, "tickformat": ".0%", "thickness": 14}},
        hovertemplate="%{text}<br>" + hover + ", %{y:.2%}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[value(row) for row in front],
        y=[row.test.top1 for row in front],
        mode="lines+markers",
        name="Pareto front",
        line={"color": "#d9622b", "width": 2, "shape": "hv"},
        marker={"symbol": "circle-open", "size": 14, "line": {"width": 2}},
        hoverinfo="skip",
    )
    _finish(figure, axis, "accuracy on test data")
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(tickformat=".0%")
    return Chart(key, title, "On the front: no other network is both cheaper and more accurate.", figure)


def pytorch_chart(key: str, title: str, row: Row) -> Chart:
    """PyTorch's way against ours, relative to the dense network."""
    if row.pytorch is None:
        raise ValueError("the dense network has no counterpart in PyTorch's pruning")
    weights = 4 * sum(layer.total for layer in row.layers)
    ours, theirs = row.ours, row.pytorch
    names = ["saved file", "memory while pruning", "memory afterwards"]
    dense: list[float] = [row.trained.file_bytes, weights, weights]
    sides: list[list[float | None]] = [
        [side.file_bytes, _plus(side.peak_memory, weights), _plus(side.held_memory, weights)] for side in (ours, theirs)
    ]
    for batch in (1, 64):
        if level := _median(row, "dense", batch):
            names.append(f"latency, batch {batch}")
            dense.append(level)
            sides[0].append(_median(row, "pruned", batch))
            sides[1].append(_median(row, "masked", batch))
    figure = go.Figure()
    for name, values, colour in (("Secateur", sides[0], "#2b9a66"), ("torch.nn.utils.prune", sides[1], "#d9622b")):
        figure.add_bar(
            y=names,
            x=[_ratio(value, level) for value, level in zip(values, dense, strict=True)],
            orientation="h",
            name=name,
            marker={"color": colour},
            hovertemplate="%{y}: %{x:.2f} × dense",
        )
    figure.add_vline(x=1, line=LEVEL, annotation_text="dense", annotation_position="bottom right")
    _finish(figure, "times the dense network", "")
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_yaxes(autorange="reversed", automargin=True)
    about = f"{row.cell.describe()}. Lower is better; memory is that of the weights and what pruning adds to it."
    return Chart(key, title, about, figure)


def _finish(figure: go.Figure, x: str, y: str, height: int = 420) -> None:
    figure.update_layout(
        height=height,
        margin={"l": 60, "r": 16, "t": 24, "b": 92},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        modebar={"bgcolor": "rgba(0,0,0,0)"},
        hovermode="closest",
        xaxis_title=x or None,
        yaxis_title=y or None,
    )


def _median(row: Row, engine: str, batch: int) -> float | None:
    latency = row.latency(engine, batch)
    return latency.median_ms if latency else None


def _plus(extra: int | None, weights: int) -> float | None:
    return None if extra is None else weights + extra


def _ratio(value: float | None, dense: float) -> float | None:
    return None if value is None else value / dense


_COSTS: dict[str, tuple[Callable[[Row], float | None], str, str]] = {
    "bytes": (lambda row: row.ours.file_bytes, "bytes of the saved network", "%{x:.4s}B"),
    "latency": (lambda row: _median(row, "pruned", 1), "latency of one image in ms (one thread)", "%{x:.3f} ms"),
}
