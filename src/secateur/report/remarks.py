"""What must be said of a network that was chosen: how sure it is, what was asked and what came. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.measure.intervals import TELLING, lost_interval, smallest_loss, wilson
from secateur.records.results import Contender, Latency, Outcome, Row
from secateur.records.scores import Score
from secateur.records.selection import Budget, choose, faster, within
from secateur.support.quantities import percent
from secateur.support.references import short

_LESS = {"latency": "faster", "bytes": "smaller", "macs": "of fewer multiply-adds", "weights": "of fewer weights"}


def verdict(outcome: Outcome, budget: Budget) -> tuple[str, ...]:
    """What a reader must hear of a search's choice: that it found nothing better, what is as good, what is better."""
    chosen, dense = outcome.contender(outcome.chosen), outcome.contender("dense")
    choice = choose(within(outcome, budget), dense, budget)
    less = _LESS[budget.target] if len(budget.targets) == 1 else "cheaper"
    if budget.max_cost is not None:
        return _within_cost(chosen, dense, budget)
    if chosen.cell not in {each.cell for each in choice.tied}:
        return (
            f"{choice.best.name} is {less} than {chosen.name} within the same budget: this search chose among "
            "its own networks only, as versions before did.",
        )
    told = []
    if chosen.name == "dense":
        told.append(f"Nothing {less} than the dense network was found within the budget: that is kept.")
    elif not chosen.name.startswith(("search", "mixed")):
        told.append(f"The search found nothing better than {chosen.name}, which is kept.")
    others = [each.name for each in choice.tied if each.cell != chosen.cell]
    if others:
        told.append(f"Within noise of it: {', '.join(others)}; of these the one that loses least was taken.")
    return tuple(told)


def _within_cost(chosen: Contender, dense: Contender, budget: Budget) -> tuple[str, ...]:
    if not budget.holds(chosen, dense):
        kept = "the dense network is kept" if chosen.name == "dense" else "this is the cheapest"
        return (f"Nothing was found that costs {budget.describe()} or less: {kept}. Allow more.",)
    if chosen.name == "dense":
        return (f"The dense network costs less than {budget.describe()}: that is kept.",)
    return ()


def points_text(points: float) -> str:
    return f"{points:g} point" if points == 1 else f"{points:g} points"


def accuracy_text(name: str, own: Score, dense: Score) -> str:
    """A score and the points lost against dense; of accuracies each with its interval."""
    if not own.is_accuracy:
        counted = f" ({own.metric.a_point})" if own.metric.a_point and name == "validation" else ""
        return f"{own.text} on {own.n:,} {name} {own.metric.unit}, {own.lost_from(dense):+.2f} points lost{counted}"
    low, high = wilson(own)
    least, most = lost_interval(own, dense)
    lost = own.lost_from(dense)
    return (
        f"{own.text} on {own.n:,} {name} images (95 %: {100 * low:.2f} to {100 * high:.2f}), "
        f"{lost:+.2f} points lost ({least:+.2f} to {most:+.2f})"
    )


def intervals(own: Score, dense: Score) -> dict[str, tuple[float, float]]:
    """The same for programs: of an accuracy, a share, and of what was lost, points; nothing of another metric."""
    return {"accuracy": wilson(own), "lost": lost_interval(own, dense)} if own.is_accuracy else {}


INTERVALS = (
    "Intervals of accuracies are Wilson's; those of what is lost Newcombe's, from these, as if dense had seen other "
    "images: rather too wide than too narrow."
)


def caution(judged: Score, points: float) -> str:
    """What must be said where a validation split is too small for the points of accuracy that may be lost on it, else
    nothing."""
    images = judged.n
    least = smallest_loss(images)
    if points >= least or not judged.is_accuracy:
        return ""
    return (
        f"{images:,} validation images are too few for a budget of {points_text(points)}: no loss below {least:.2g} "
        f"points ({TELLING} of them, sign test at 95 %) can be told from none; expect to lose more on other data, "
        "allow more, or hold out more images"
    )


def no_faster(row: Row, rows: Sequence[Row]) -> str:
    """Where a pruned network is no faster than the dense one, in Secateur's runtime if the rows have its time there,
    else in PyTorch: that, else nothing."""
    ours, there = row.our_latency(), dense_in_runtime(row, rows)
    dense = there or row.latency("dense")
    if row.cell.ratio == 0 or not ours or not dense or faster(ours, dense):
        return ""
    where = "in the same runtime" if there else "in PyTorch"
    return f"no faster than dense {where}: {ours.median_ms:.3g} ms for one image, dense {dense.median_ms:.3g} ms"


def dense_in_runtime(row: Row, rows: Sequence[Row]) -> Latency | None:
    """Of the network that a row started from, in Secateur's runtime, on the same machine and in the same precision,
    where the rows have both."""
    whole = [each for each in rows if each.cell.ratio == 0 != row.cell.ratio]
    beside = [each for each in whole if (each.trained.key, each.cell.element) == (row.trained.key, row.cell.element)]
    alike = [each.latency("secateur") for each in beside if each.timing == row.timing and row.latency("secateur")]
    return next((each for each in alike if each), None)


def remarks(row: Row, rows: Sequence[Row], tolerance: float | None = None) -> list[str]:
    """Of a network that was chosen among rows: its intervals, and what came otherwise than it was asked or hoped for.

    tolerance: the points of validation accuracy that it was allowed to lose, None where it was chosen otherwise.
    """
    validation = accuracy_text("validation", row.validation, row.trained.validation)
    warning = caution(row.validation, tolerance) if tolerance is not None else ""
    return [
        f"{row.test.metric.name}: {validation}; {accuracy_text('test', row.test, row.trained.test)}",
        *(each for each in (shortfall(row), no_faster(row, rows)) if each),
        *([f"caution: {warning}"] if warning else []),
    ]


def left_dense(rows: Sequence[Row], most: int = 6) -> list[str]:
    """Of each network of some rows what no cell prunes or counts, in a line."""
    told = {}
    for row in rows:
        names = [f"{name} ({why})" for name, why in row.left]
        rest = f" and {len(names) - most} more" if len(names) > most else ""
        if names:
            told[row.cell.model] = f"left dense in {short(row.cell.model)}: {', '.join(names[:most])}{rest}"
    return list(told.values())


def shortfall(row: Row) -> str:
    """Where a network came out less sparse than was asked for: what was asked, what came, and why; else nothing."""
    asked = row.cell.ratio
    if row.sparsity > asked - 0.02:
        return ""
    whole = [layer for layer in row.layers if layer.kept == layer.total]
    total = sum(layer.total for layer in row.layers)
    told = f"asked for {percent(asked)} zeros, came to {row.sparsity:.1%}"
    if not whole:
        return told
    most = max(whole, key=lambda layer: layer.total)
    share = sum(layer.total for layer in whole) / total
    names = most.name if len(whole) == 1 else f"{most.name} and {len(whole) - 1} more"
    return f"{told}: {names}, left whole, {'holds' if len(whole) == 1 else 'hold'} {share:.1%} of the weights"
