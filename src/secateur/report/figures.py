"""The report's charts, made with plotly; colours that follow the page's theme are set by the page."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from secateur.measure.analysis import Analysis
from secateur.records.results import Row
from secateur.records.scores import TOP1, Metric
from secateur.report.analysis import heading, unit_of
from secateur.report.break_even import break_evens
from secateur.report.comparison import MEASURES, line_of
from secateur.report.fronts import AXES, Front
from secateur.report.paper import Comparison
from secateur.report.study import recipe_text
from secateur.report.summary import (
    ALL_BUT_GONE,
    COSTS,
    DASHES,
    ENGINES,
    PALETTE,
    PAPER,
    Curve,
    against_pytorch,
    curve_name,
    fronts,
    rivals_about,
    rivals_beside,
)
from secateur.support.quantities import percent

LABEL_HEIGHT = 0.05
"""Of the axis of accuracies: what the text of a label takes."""

NEAR = 0.1
"""Of accuracy: what lies further below the best need not be seen beside it."""

LEVEL = {"dash": "dot", "width": 1, "color": "#888"}


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with what a reader needs to read it. ratio_axis: the page offers density on a log axis."""

    key: str
    title: str
    about: str
    figure: go.Figure
    ratio_axis: bool = False
    wide: bool = False


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
            hovertemplate=f"%{{y:{_format_of(curve.metric)}}} at %{{x:.0%}} pruned<br>"
            "density %{customdata[0]:.1%}, n = %{customdata[1]}",
        )
    metric = curves[0].metric
    _add_dense(figure, sorted({curve.dense.mean for curve in curves}), metric)
    _finish(figure, "pruned share of the weights", _axis_of(metric))
    figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])
    hidden = _score_axis(figure, metric, [point.accuracy.mean for curve in curves for point in curve.points])
    about = f"Lines are means over seeds; a band is their 95 % confidence interval (Student's t).{hidden}"
    return Chart(key, title, about, figure, ratio_axis=True, wide=True)


def comparison_chart(key: str, title: str, curves: Sequence[Curve]) -> Chart:
    """Every way of pruning in four panels: test accuracy over what was saved on paper, and over what is real."""
    figure = make_subplots(rows=2, cols=2, shared_yaxes=True, horizontal_spacing=0.04, vertical_spacing=0.17)
    for place, measure in enumerate(MEASURES):
        row, column = place // 2 + 1, place % 2 + 1
        for number, curve in enumerate(curves):
            line = line_of(curve, measure)
            figure.add_scatter(
                x=[at.x for at in line],
                y=[at.accuracy.mean for at in line],
                customdata=[[at.ratio, at.accuracy.n] for at in line],
                error_y={"type": "data", "array": [at.above for at in line], "arrayminus": [at.below for at in line],
                         "thickness": 0.7, "width": 2},
                name=curve_name(curve, curves),
                legendgroup=str(number),
                showlegend=place == 0,
                mode="lines+markers",
                line={"color": PALETTE[number % len(PALETTE)], "dash": DASHES[number // len(PALETTE) % len(DASHES)],
                      "width": 2},
                marker={"size": 5},
                hovertemplate=f"%{{y:{_format_of(curve.metric)}}} at %{{x:.4s}}<br>"
                "ratio %{customdata[0]:.4~%}, n = %{customdata[1]}",
                row=row,
                col=column,
            )  # fmt: skip
        ticks = {"dtick": "D2", "tickformat": "~s" if measure.prefixed else "~g"}
        figure.update_xaxes(type="log", title_text=measure.axis, row=row, col=column, **ticks)
    lines_of_legend = -(-len(curves) // 3)
    _finish(figure, "", "", height=720 + 20 * lines_of_legend)
    figure.update_layout(margin={"b": 70 + 20 * lines_of_legend})
    metric = curves[0].metric
    hidden = _score_axis(figure, metric, [point.accuracy.mean for curve in curves for point in curve.points])
    for row in (1, 2):
        figure.update_yaxes(title_text=_axis_of(metric), row=row, col=1)
    about = (
        "Above, what counting promises (further right is better); below, what the file and Secateur's runtime make of "
        "it (further left is better). Means over seeds with their 95 % interval (Student's t). The control is random."
        f"{hidden}"
    )
    return Chart(key, title, about, figure, wide=True)


def _axis_of(metric: Metric) -> str:
    return f"{metric.name} on test data{'' if metric.higher else ' (lower is better)'}"


def _format_of(metric: Metric) -> str:
    return ".2%" if metric.in_per_cent else ".4g"


def _score_axis(figure: go.Figure, metric: Metric, scores: Sequence[float]) -> str:
    """Accuracies near the best, where at least half of them are, such that a point can be seen; else from none to all.
    Other metrics as far as they go. What a reader must know of it."""
    if not (metric.in_per_cent and scores):
        return ""
    best = max(scores)
    near = [each for each in scores if each >= best - NEAR]
    if 2 * len(near) < len(scores):
        figure.update_yaxes(tickformat=".0%", range=[0, 1.04])
        return ""
    room = max(0.005, 0.15 * (best - min(near)))
    figure.update_yaxes(tickformat=".1%", range=[min(near) - 2 * room, best + room])
    hidden = len(scores) - len(near)
    return f" {hidden} of {len(scores)} points lie below what is shown: pull the axis." if hidden else ""


def _add_dense(figure: go.Figure, levels: Sequence[float], metric: Metric = TOP1) -> None:
    """The scores of the dense networks as lines; levels too close for a label each share one."""
    together = not metric.in_per_cent or levels[-1] - levels[0] < LABEL_HEIGHT
    low, high = metric.text(levels[0]), metric.text(levels[-1])
    for number, level in enumerate(levels):
        text = f"dense {metric.text(level)}" if len(levels) == 1 or not together else f"dense {low} to {high}"
        label = {} if together and number else {"annotation_text": text, "annotation_position": "bottom right"}
        figure.add_hline(y=level, line=LEVEL, **label)


def _add_band(figure: go.Figure, curve: Curve, colour: str, group: str) -> None:
    spreads = [point.accuracy for point in curve.points]
    if any(each.low is None for each in spreads):
        return
    ratios = [point.ratio for point in curve.points]
    low, high = [each.low or 0.0 for each in spreads], [each.high or 0.0 for each in spreads]
    if curve.metric.in_per_cent:
        low, high = [max(0.0, each) for each in low], [min(1.0, each) for each in high]
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


def paper_chart(key: str, title: str, compared: Sequence[Sequence[Comparison]]) -> Chart:
    """The paper's figure 4 with ours in it: per network the printed curve dashed and ours, read as said."""
    figure = go.Figure()
    shown: dict[str, Comparison] = {}
    for members in compared:
        shown.setdefault(members[0].published.model, members[0])
    for number, each in enumerate(shown.values()):
        colour, name = PALETTE[number % len(PALETTE)], each.published.model
        _add_lines(figure, each, f"{name}, ours ({each.recipe.epochs} epochs)", colour, "solid")
        _add_printed(figure, each, f"{name}, paper", colour)
    _finish(figure, "prune ratio as the paper names it", "accuracy on test data")
    figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(tickformat=".0%", range=[0, 1.04])
    about = "Ours are means over seeds with their 95 % interval, each ratio cut from the dense network."
    return Chart(key, title, about, figure, wide=True)


def readings_chart(key: str, title: str, readings: Sequence[Comparison]) -> Chart:
    """One network: the printed curve, and ours by each reading (colour) and recipe (dash)."""
    figure = go.Figure()
    recipes = list(dict.fromkeys(each.recipe for each in readings))
    keys = list(dict.fromkeys(each.reading.key for each in readings))
    for each in readings:
        colour = PALETTE[keys.index(each.reading.key) % len(PALETTE)]
        dash = DASHES[recipes.index(each.recipe) % len(DASHES)]
        several = f", {each.recipe.epochs} epochs, {recipe_text(each)}" if len(recipes) > 1 else ""
        _add_lines(figure, each, f"{each.reading.key}{several}", colour, dash)
    _add_printed(figure, readings[0], "paper", PAPER)
    _finish(figure, "prune ratio as the paper names it", "accuracy on test data")
    figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(tickformat=".0%", range=[0, 1.04])
    about = "; ".join(f"{each.key}: {each.about}" for each in dict.fromkeys(each.reading for each in readings)) + "."
    return Chart(key, title, about, figure, wide=True)


def _add_lines(figure: go.Figure, each: Comparison, name: str, colour: str, dash: str) -> None:
    known = [(line.nominal, line.ratio, line.ours) for line in each.lines if line.ours]
    halves = [ours.half for _, _, ours in known]
    figure.add_scatter(
        x=[nominal for nominal, _, _ in known],
        y=[ours.mean for _, _, ours in known],
        customdata=[[ratio, ours.n] for _, ratio, ours in known],
        error_y={"type": "data", "array": halves, "thickness": 1} if all(half is not None for half in halves) else None,
        name=name,
        mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 2.5},
        marker={"size": 6},
        hovertemplate="%{y:.2%} at %{x:.0%} (%{customdata[0]:.4~%} of the weights)<br>n = %{customdata[1]}",
    )


def _add_printed(figure: go.Figure, each: Comparison, name: str, colour: str) -> None:
    figure.add_scatter(
        x=[line.nominal for line in each.lines],
        y=[line.published for line in each.lines],
        name=name,
        mode="lines+markers",
        line={"color": colour, "dash": "dot", "width": 2},
        marker={"symbol": "x", "size": 8},
        hovertemplate="%{y:.2%} at %{x:.0%}, as printed",
    )


def layers_chart(key: str, title: str, rows: Sequence[Row]) -> Chart:
    """Sparsity of every layer at every ratio of one curve and seed, as a map."""
    names = [layer.name for layer in rows[0].layers]
    rows = [row for row in rows if row.cell.ratio < ALL_BUT_GONE] or list(rows)
    figure = go.Figure(
        go.Heatmap(
            x=[percent(row.cell.ratio) for row in rows],
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
    """Test accuracy against saved bytes or latency, a point per row, the Pareto front (of each machine) as a line."""
    value, axis = COSTS[cost]
    known = [row for row in rows if value(row) is not None]
    shape = _format_of(rows[0].test.metric)
    figure = go.Figure()
    figure.add_scatter(
        x=[value(row) for row in known],
        y=[row.test.value for row in known],
        text=[row.cell.describe() for row in known],
        mode="markers",
        name="measured",
        marker={"size": 9, "color": [row.sparsity for row in known], "colorscale": "Viridis", "cmin": 0, "cmax": 1,
                "colorbar": {"title": {"text": "zeros"}, "tickformat": ".0%", "thickness": 14}},
        hovertemplate="%{text}<br>%{x:.4s}" + _UNITS[cost] + f", %{{y:{shape}}}<extra></extra>",
    )  # fmt: skip
    for (name, front), dash in zip(fronts(rows, cost).items(), itertools.cycle(DASHES), strict=False):
        figure.add_scatter(
            x=[value(row) for row in front],
            y=[row.test.value for row in front],
            mode="lines+markers",
            name=name,
            line={"color": "#d9622b", "width": 2, "shape": "hv", "dash": dash},
            marker={"symbol": "circle-open", "size": 14, "line": {"width": 2}},
            hoverinfo="skip",
        )
    metric = rows[0].test.metric
    _finish(figure, axis, _axis_of(metric))
    dearest = max((value(row) or 0.0 for row in known), default=1.0)
    figure.update_xaxes(range=[0, 1.08 * dearest])
    hidden = _score_axis(figure, metric, [row.test.value for row in known])
    return Chart(key, title, f"On the front: no other network is both cheaper and more accurate.{hidden}", figure)


def front_chart(key: str, title: str, front: Front) -> Chart:
    """What each network of a search costs and scores, the chosen one marked, and the dense one in other engines."""
    axis, unit = AXES[front.target]
    shape = _format_of(front.metric)
    cost = "%{x:.4s}" if front.target == "bytes" else "%{x:.4g} "
    hover = f"%{{text}}<br>{cost}{unit}, %{{y:{shape}}}<br>%{{customdata}}<extra></extra>"
    figure = go.Figure()
    figure.add_scatter(
        x=[each.cost for each in front.found],
        y=[each.score for each in front.found],
        text=[each.name for each in front.found],
        customdata=[each.about for each in front.found],
        mode="lines+markers",
        name="the front",
        line={"color": "#2b9a66", "width": 2, "shape": "vh"},
        marker={"size": 7},
        hovertemplate=hover,
    )
    looks = (
        ("of its kind the best", front.kinds, "#3b7dd8", "circle"),
        ("the chosen one", (front.chosen,), "#2b9a66", "star"),
    )
    for name, spots, colour, symbol in (*looks, ("dense elsewhere", front.elsewhere, "#d9622b", "diamond")):
        figure.add_scatter(
            x=[each.cost for each in spots],
            y=[each.score for each in spots],
            text=[each.name for each in spots],
            customdata=[each.about for each in spots],
            mode="markers+text" if spots == front.elsewhere else "markers",
            textposition=[("bottom center", "top center")[place % 2] for place in range(len(spots))],
            textfont={"size": 10},
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 18 if symbol == "star" else 10},
            hovertemplate=hover,
        )
    _finish(figure, axis, f"{front.metric.name} on validation data")
    figure.update_xaxes(type="log", dtick="D2", tickformat="~s" if front.target == "bytes" else "~g")
    figure.update_yaxes(range=[front.low, front.high], tickformat=".1%" if front.metric.in_per_cent else None)
    measured = f"of batches of {front.batch} on one thread" if front.target == "latency" else "of the .secateur file"
    lie = "lies" if front.hidden == 1 else "lie"
    hidden = f" {front.hidden} of the front {lie} below what is shown: pull the axis." if front.hidden else ""
    about = f"Cheaper is further left, better further up; {measured}.{hidden}"
    return Chart(key, title, about, figure, wide=True)


def pytorch_chart(key: str, title: str, row: Row) -> Chart:
    """PyTorch's way against ours, relative to the dense network."""
    factors = against_pytorch(row)
    figure = go.Figure()
    for name, side, colour in (("Secateur", "ours", "#2b9a66"), ("torch.nn.utils.prune", "pytorch", "#d9622b")):
        figure.add_bar(
            y=[factor.name for factor in factors],
            x=[getattr(factor, side) for factor in factors],
            orientation="h",
            name=name,
            marker={"color": colour},
            hovertemplate="%{y}: %{x:.2f} × dense",
        )
    figure.add_vline(x=1, line=LEVEL, annotation_text="dense", annotation_position="top right")
    _finish(figure, "times the dense network", "", height=140 + 44 * len(factors))
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_yaxes(autorange="reversed", automargin=True)
    about = f"{row.cell.describe()}. Lower is better. Memory is that of the weights and what pruning adds to it."
    return Chart(key, title, about, figure, wide=True)


def time_chart(key: str, title: str, rows: Sequence[Row], batch: int) -> Chart | None:
    """Latency over ratio: the pruned network in the runtime and in PyTorch; the dense one there and in the fastest of
    other engines.

    None where no row was timed with that many images.
    """
    if not any(latency.batch == batch for row in rows for latency in row.latencies):
        return None
    figure = go.Figure()
    for colour, (engine, name) in zip(("#2b9a66", "#3b7dd8", "#d9622b"), ENGINES.items(), strict=True):
        known = [(row.cell.ratio, latency) for row in rows if (latency := row.latency(engine, batch))]
        if not known:
            continue
        figure.add_scatter(
            x=[ratio for ratio, _ in known],
            y=[each.median_ms for _, each in known],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [each.high_ms - each.median_ms for _, each in known],
                "arrayminus": [each.median_ms - each.low_ms for _, each in known],
                "thickness": 1,
            },
            customdata=[each.n for _, each in known],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2.5},
            marker={"size": 7},
            hovertemplate="%{y:.4g} ms at %{x:.0%}<br>n = %{customdata}",
        )
    dense = [latency.median_ms for row in rows if (latency := row.latency("dense", batch))]
    if dense:
        level = statistics.median(dense)
        text = f"dense in PyTorch {level:.3g} ms"
        figure.add_hline(y=level, line=LEVEL, annotation_text=text, annotation_position="top left")
    rivals = rivals_beside(rows, batch)
    for element, each in rivals.items():
        text = f"dense in {each.engine}, {element} {each.median_ms:.3g} ms"
        figure.add_hline(y=each.median_ms, line=LEVEL, annotation_text=text, annotation_position="top right")
    _finish(figure, "pruned share of the weights", "milliseconds")
    figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(rangemode="tozero")
    images = "one image" if batch == 1 else f"{batch} images"
    about = (
        f"{images.capitalize()} on one thread: medians with their 95 % interval, timed in turns at each ratio. "
        f"{rivals_about(rows, batch)}"
    )
    return Chart(key, title, about, figure)


def break_even_chart(key: str, title: str, rows: Sequence[Row]) -> Chart | None:
    """How many times faster than dense the network and each layer is at each ratio, as a map; None without times."""
    lines = break_evens(rows)
    if not lines:
        return None
    places = [place for place, row in enumerate(rows) if 0 < row.cell.ratio < ALL_BUT_GONE]
    times = [[line.times[place] for place in places] for line in lines]
    figure = go.Figure(
        go.Heatmap(
            x=[percent(rows[place].cell.ratio) for place in places],
            y=[f"{line.name}: {line.describe()}" for line in lines],
            z=[[None if each is None else math.log2(each) for each in line] for line in times],
            text=[["" if each is None else f"{each:.1f}" for each in line] for line in times],
            texttemplate="%{text}",
            colorbar={**_TIMES_FASTER, "title": {"text": "times faster"}, "thickness": 14},
            hovertemplate="%{y}<br>%{x}: %{text} times as fast as dense<extra></extra>",
            **_FASTER,
        )
    )
    _finish(figure, "ratio", "", height=max(260, 120 + 24 * len(lines)))
    figure.update_xaxes(type="category")
    figure.update_yaxes(autorange="reversed", automargin=True)
    about = (
        "Times as fast as dense, and from which ratio on it is faster at every ratio measured. Layers, with what is "
        "fused into them, are compared in Secateur's runtime, which picks dense loops where those are faster; one "
        "image on one thread."
    )
    return Chart(key, title, about, figure, wide=True)


def spending_chart(key: str, title: str, found: Analysis) -> Chart:
    """The time of every step, coloured by why it is not less."""
    figure = go.Figure()
    kinds = list(dict.fromkeys(layer.reason.kind for layer in found.layers))
    unit, factor = unit_of(found)
    for number, kind in enumerate(kinds):
        own = [layer for layer in found.layers if layer.reason.kind == kind]
        figure.add_bar(
            y=[layer.name for layer in own],
            x=[factor * layer.milliseconds for layer in own],
            customdata=[[layer.kernel, layer.reason.text] for layer in own],
            name=kind,
            orientation="h",
            marker={"color": PALETTE[number % len(PALETTE)]},
            hovertemplate="%{y}: %{x:.3g} "
            + unit
            + "<br>%{customdata[0]}<br>%{customdata[1]}<extra>"
            + kind
            + "</extra>",
        )
    _finish(figure, f"{unit}, measured", "", height=max(260, 160 + 20 * len(found.layers)))
    figure.update_layout(bargap=0.25, barmode="stack")
    figure.update_yaxes(
        autorange="reversed", automargin=True, categoryorder="array",
        categoryarray=[layer.name for layer in found.layers],
    )  # fmt: skip
    about = "Every step of the plan in the order in which they run, with what its numbers say it waits for."
    return Chart(key, title, about, figure, wide=True)


def foreseen_chart(key: str, title: str, found: Analysis) -> Chart:
    """How many times faster the cost model expects each layer to be after each change, as a map."""
    layers = [layer for layer in found.layers if layer.foreseen]
    changes = found.changes
    times = [
        [layer.milliseconds / then if (then := layer.foreseen.get(change)) else None for change in changes]
        for layer in layers
    ]
    figure = go.Figure(
        go.Heatmap(
            x=[heading(change) for change in changes],
            y=[layer.name for layer in layers],
            z=[[None if each is None else math.log2(each) for each in line] for line in times],
            text=[["" if each is None else f"{each:.1f}" for each in line] for line in times],
            texttemplate="%{text}",
            hovertemplate="%{y}, %{x}: %{text} times as fast, estimated<extra></extra>",
            colorbar={**_TIMES_FASTER, "title": {"text": "times faster"}, "thickness": 14},
            **_FASTER,
        )
    )
    _finish(figure, "zeros, and what it computes in", "", height=max(260, 120 + 22 * len(layers)))
    figure.update_xaxes(type="category")
    figure.update_yaxes(autorange="reversed", automargin=True)
    about = (
        "Estimates by the cost model that plans are made with, each layer changed alone: in float32 with single "
        "weights zero, in eight bits with words of 1×4. Empty: the layer is there already."
    )
    return Chart(key, title, about, figure, wide=True)


_UNITS = {"bytes": "B", "latency": " ms"}
_TIMES_FASTER = {"tickvals": [-3, -2, -1, 0, 1, 2, 3], "ticktext": ["⅛", "¼", "½", "1", "2", "4", "8"]}
_FASTER = {
    "zmin": -3,
    "zmax": 3,
    "colorscale": [[0, "#b5481a"], [0.5, "#f3efe6"], [1, "#14724a"]],
    "xgap": 1,
    "ygap": 1,
}
"""A map of times faster by their logarithm to base 2."""


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
        **({"xaxis_title": x} if x else {}),
        **({"yaxis_title": y} if y else {}),
    )
