"""`secateur analyze`: where a network's time goes, as tables, lines and a record. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur.measure.analysis import PEERS, Analysis, LayerAnalysis, analyse
from secateur.measure.foreseen import BYTES, Change
from secateur.measure.reasons import bytes_text
from secateur.measure.rivals import in_eight_bits
from secateur.network.graph import Graph
from secateur.network.limits import Limits
from secateur.network.zeros import NONE, SINGLE
from secateur.records.kept import Kept
from secateur.report.grid import Grid
from secateur.report.printing import Printed
from secateur.runtime.opening import Opened, open_kept, open_network

if TYPE_CHECKING:
    from secateur.importing.onnx import Bound, Shapes

_WIDEST = 20
_SMALL = 0.005
"""Of the time: what has no weights and takes less is told together, at the end."""


def analyze(
    network: str | Path | Graph,
    *,
    batch: int = 1,
    threads: int = 1,
    kernel: str | None = None,
    lengths: Mapping[str, int] | None = None,
    model: str | None = None,
    peers: Sequence[str] = PEERS,
    seconds: float = 0.5,
    limits: Limits | None = None,
    shapes: Shapes | None = None,
    bind: Bound | None = None,
) -> AnalysisResult:
    """Time a packed network layer by layer, and say why each layer takes what it takes and what would change that.

    network: a .secateur or .onnx file (shapes, bind: as load has them), a run folder (its best network; model: which,
    where it kept several), or a Graph.
    lengths: by name, where the network has some that are free. peers: other engines that the whole is timed beside, of
    measure.bench.PEERS; those that are not installed are named. seconds: of timing, for the steps and again for each
    engine. Shows as tables where it is printed; `analysis` holds the numbers.
    Raises as runtime.opening.open_network and measure.analysis.analyse do.
    """
    opened = (
        Opened("graph", network)
        if isinstance(network, Graph)
        else open_network(network, model=model, limits=limits, shapes=shapes, bind=bind)
    )
    found = analyse(
        opened.graph, batch=batch, threads=threads, kernel=kernel, lengths=lengths, peers=peers, seconds=seconds,
        sizes=opened.sizes,
    )  # fmt: skip
    return AnalysisResult(opened.name, opened.file_bytes, found)


def analyse_kept(kept: Kept, card: Mapping[str, Any], beside: str = "", seconds: float = 0.3) -> AnalysisResult:
    """Of a network that a run kept, beside no other engine. beside: what its name ends with. Raises as analyze does."""
    opened = open_kept(kept, card)
    found = analyse(opened.graph, peers=(), seconds=seconds, sizes=opened.sizes)
    return AnalysisResult(opened.name + beside, opened.file_bytes, found)


@dataclass(frozen=True, slots=True, repr=False)
class AnalysisResult(Printed):
    """What `analyze` found of the network of this name. file_bytes: of its whole file, None where there is none."""

    name: str
    file_bytes: int | None
    analysis: Analysis

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        found = self.analysis
        images = "one image" if found.batch == 1 else f"{found.batch} images"
        threads = "one thread" if found.threads == 1 else f"{found.threads} threads"
        return (f"{self.name}: {images} on {threads}, kernel {found.kernel}, {found.cpu}",)

    def grids(self) -> list[Grid]:
        return [layer_grid(self.analysis, self.file_bytes), reason_grid(self.analysis)]

    def summary(self) -> list[str]:
        packed = [] if self.file_bytes else ["Bytes are those that the weights would take in a .secateur file."]
        return [*READING, *packed, *whole_lines(self.analysis)]

    def to_json(self) -> dict[str, Any]:
        found = self.analysis
        plain = ("batch", "threads", "kernel", "cpu", "costs", "bandwidth", "dequantised")
        return {
            "name": self.name,
            "file_bytes": self.file_bytes,
            "weight_bytes": found.file_bytes,
            **{name: getattr(found, name) for name in plain},
            "peaks": dict(found.peaks),
            "layers": [_layer_record(layer) for layer in found.layers],
            "zeros": found.zeros,
            "milliseconds": found.milliseconds,
            "multiply_adds": found.multiply_adds,
            "sparse_share": found.sparse_share,
            "estimates": [_estimate(change, found.foreseen(change)) for change in found.changes],
            "whole": [asdict(row) for row in found.rows],
            "missing": dict(found.missing),
        }


def _layer_record(layer: LayerAnalysis) -> dict[str, Any]:
    record = {name: getattr(layer, name) for name in LayerAnalysis.__dataclass_fields__}
    record["shape"] = list(layer.shape)
    record["reason"] = asdict(layer.reason)
    record["estimates"] = [_estimate(change, milliseconds) for change, milliseconds in layer.foreseen.items()]
    del record["foreseen"]
    return record


def _estimate(change: Change, milliseconds: float | None) -> dict[str, Any]:
    return asdict(change) | {"milliseconds": milliseconds, "estimate": True}


# ---- Tables -----------------------------------------------------------------------------------------------------

READING = (
    "MMAC: millions of multiply-adds of an image; done: those not skipped; peak: of the fastest dense loop here.",
    "×2.0: half its time, estimated by the plan's cost model: float32 with single zeros, int8 with words of 1×4.",
)


def layer_grid(found: Analysis, file_bytes: int | None) -> Grid:
    """What each layer is and what it takes; a total last."""
    shown, rest = _told(found)
    lines = [_layer_line(layer, found) for layer in shown]
    if rest:
        lines.append(_rest_line(rest, found))
    lines.append(_total_line(found, file_bytes))
    columns = ("layer", "zeros", "pattern", "MMAC", "done", "file", unit_of(found)[0], "time", "kernel", "peak")
    return Grid("", columns, tuple(lines), texts=1, marked=(), ranks=(0, 6, 1, 7, 9, 8, 4, 3, 5, 2))


def _told(found: Analysis) -> tuple[list[LayerAnalysis], list[LayerAnalysis]]:
    """Those that are told one by one, and the others."""
    shown: list[LayerAnalysis] = []
    rest: list[LayerAnalysis] = []
    for layer in found.layers:
        matters = layer.layer or layer.milliseconds >= _SMALL * found.milliseconds
        (shown if matters else rest).append(layer)
    return shown, rest


def _layer_line(layer: LayerAnalysis, found: Analysis) -> tuple[str, ...]:
    weighs = layer.zeros is not None
    return (
        shortened(layer.name),
        f"{layer.zeros:.1%}" if layer.zeros is not None else "",
        {NONE: "", SINGLE: "single"}.get(layer.pattern, layer.pattern),
        f"{layer.multiply_adds / 1e6:.3g}" if layer.multiply_adds else "",
        f"{layer.done / 1e6:.3g}" if layer.multiply_adds else "",
        bytes_text(layer.file_bytes) if weighs else "",
        time_text(layer.milliseconds, found),
        f"{layer.milliseconds / found.milliseconds:.0%}" if found.milliseconds else "",
        layer.kernel.partition(",")[0],
        f"{layer.peak_share:.0%}" if layer.peak_share is not None else "",
    )


def _rest_line(rest: Sequence[LayerAnalysis], found: Analysis) -> tuple[str, ...]:
    spent = sum(layer.milliseconds for layer in rest)
    share = f"{spent / found.milliseconds:.0%}" if found.milliseconds else ""
    return (
        f"{len(rest)} small step{'s' if len(rest) > 1 else ''}",
        "",
        "",
        "",
        "",
        "",
        time_text(spent, found),
        share,
        "",
        "",
    )


def _total_line(found: Analysis, file_bytes: int | None) -> tuple[str, ...]:
    done = sum(layer.done for layer in found.layers)
    per_image = found.milliseconds / found.batch
    peak = sum(layer.multiply_adds and layer.done / found.peaks[layer.element] for layer in found.layers)
    return (
        "all",
        f"{found.zeros:.1%}",
        "",
        f"{found.multiply_adds / 1e6:.4g}",
        f"{done / 1e6:.4g}",
        bytes_text(file_bytes or found.file_bytes),
        time_text(found.milliseconds, found),
        "100%",
        f"{found.sparse_share:.0%} runs sparse",
        f"{1e3 * peak / per_image:.0%}" if per_image else "",
    )


def unit_of(found: Analysis) -> tuple[str, float]:
    """Milliseconds, or microseconds where all takes less than one of those; and how many a millisecond has."""
    return ("ms", 1.0) if found.milliseconds >= 1 else ("µs", 1e3)


def time_text(milliseconds: float, found: Analysis) -> str:
    value = milliseconds * unit_of(found)[1]
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def reason_grid(found: Analysis) -> Grid:
    """Why each layer is not faster, and what would help; all together last."""
    shown, _ = _told(found)
    changes = found.changes
    lines = [
        (
            shortened(layer.name),
            f"{layer.reason.kind}: {layer.reason.text}",
            *(times_text(layer.milliseconds, layer.foreseen.get(change)) for change in changes),
        )
        for layer in shown
    ]
    total = tuple(times_text(found.milliseconds, found.foreseen(change)) for change in changes)
    lines.append(("all", _where(found), *total))
    columns = ("layer", "why it is not faster", *map(heading, changes))
    return Grid("", columns, tuple(lines), texts=2)


def heading(change: Change) -> str:
    zeros = f"{change.zeros:.0%}" if change.zeros else ""
    return " ".join(part for part in ("int8" if change.element == BYTES else "", zeros) if part)


def _where(found: Analysis) -> str:
    """Which reasons hold most of the time."""
    spent: dict[str, float] = {}
    for layer in found.layers:
        spent[layer.reason.kind] = spent.get(layer.reason.kind, 0.0) + layer.milliseconds
    most = sorted(spent.items(), key=lambda each: -each[1])[:3]
    return ", ".join(f"{kind} {share / found.milliseconds:.0%}" for kind, share in most) if found.milliseconds else ""


def times_text(now: float, then: float | None) -> str:
    return f"×{now / then:.1f}" if then else ""


def shortened(name: str, widest: int = _WIDEST) -> str:
    """A long name by its end."""
    return name if len(name) <= widest else f"…{name[1 - widest :]}"


def whole_lines(found: Analysis) -> list[str]:
    """The whole run beside the sum of its steps, and other engines beside it."""
    if not found.rows:
        return []
    ours, *others = found.rows
    lines = [
        f"whole run: {ours.median_ms:.3g} ms ({ours.low_ms:.3g} to {ours.high_ms:.3g}, median of {ours.n} in turns); "
        f"its steps, each at its fastest, add up to {found.milliseconds:.3g} ms"
    ]
    for row in others:
        kind = "its own int8" if in_eight_bits(row.engine) else "float32"
        beside = " (the float network that this one approximates)" if found.dequantised else ""
        lines.append(
            f"beside it {row.engine}, {kind}{beside}: {row.median_ms:.3g} ms, "
            f"{row.median_ms / ours.median_ms:.2f} times as long"
        )
    return lines + [f"not timed: {name}: {reason}" for name, reason in found.missing.items()]


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds >= 1 else f"{1e3 * milliseconds:.3g} µs"


def headlines(found: Analysis) -> list[tuple[str, str, str]]:
    """The most telling numbers: value, what it is, and more about it."""
    whole = found.rows[0].median_ms if found.rows else found.milliseconds
    most = _where(found).partition(",")[0]
    told = [
        (_duration(whole), "for the whole run", f"its steps add up to {_duration(found.milliseconds)}"),
        (f"{found.sparse_share:.0%}", "of the multiply-adds run sparse", f"{found.zeros:.1%} of the weights are zero"),
        (most.rpartition(" ")[2], f"of the time is {most.rpartition(' ')[0]}", _where(found)),
    ]
    for row in found.rows[1:]:
        about = f"{row.median_ms:.3g} ms, {'its own int8' if in_eight_bits(row.engine) else 'float32'}"
        told.append((f"{row.median_ms / whole:.2f} ×", f"as long in {row.engine}", about))
    best = max(found.changes, key=lambda change: -(found.foreseen(change) or 0.0), default=None)
    if best is not None and (then := found.foreseen(best)):
        told.append((times_text(found.milliseconds, then), f"with {best.describe()} in every layer", "an estimate"))
    return told
