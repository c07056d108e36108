from __future__ import annotations

import io

import pytest
from rich.console import Console

from secateur.support.progress import ConsoleReporter, SilentReporter, Voice


def test_piped_output_gets_lines_with_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("secateur.support.progress.time.monotonic", lambda: next(clock))
    out = io.StringIO()
    with ConsoleReporter(Console(file=out, width=40)).task("training", 10, 5) as task:
        for _ in range(4):
            task.advance(1, lambda: "loss 0.5")
    assert out.getvalue().splitlines() == [
        "training: 7/10, 0:30 left loss 0.5",
        "training: 9/10, 0:10 left loss 0.5",
        "training: done in 0:50 loss 0.5",
    ]


def test_brief_work_is_spoken_of_only_where_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("secateur.support.progress.time.monotonic", lambda: now[0])
    out = io.StringIO()
    reporter = ConsoleReporter(Console(file=out, width=40))
    for cell, seconds in (("short", 2.0), ("long", 10.0)):
        with reporter.task(cell, 3, brief=True) as task:
            for stage in ("trained", "pruned", "measured"):
                now[0] += seconds
                task.advance(1, lambda stage=stage: stage)  # type: ignore[misc]
    assert out.getvalue().splitlines() == ["long: 2/3, 0:10 left pruned", "long: done in 0:30 measured"]


def test_a_terminal_gets_bars_that_go_away() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    reporter = ConsoleReporter(console)
    with reporter.task("cells", 2) as outer:
        with reporter.task("training", 100) as inner:
            inner.advance(50, lambda: "half way")
            assert reporter._bars is not None
            console.print(reporter._bars.get_renderable())
        outer.advance()
        reporter.say("a line above the bars")
    assert "half way" in out.getvalue()
    assert "a line above the bars" in out.getvalue()


def say_everything(reporter: ConsoleReporter) -> None:
    with reporter.task("cell", 1, brief=True) as task:
        task.advance(1, lambda: "98 %")
    reporter.say("dense", loud=True)
    reporter.warn("odd")


@pytest.mark.parametrize(
    ("voice", "lines"),
    [
        (Voice.QUIET, ["warning: odd"]),
        (Voice.USUAL, ["dense", "warning: odd"]),
        (Voice.DETAILED, ["cell: done in 0:00 98 %", "dense", "warning: odd"]),
    ],
)
def test_a_voice_says_how_much_is_said(voice: Voice, lines: list[str]) -> None:
    piped, shown = io.StringIO(), io.StringIO()
    say_everything(ConsoleReporter(Console(file=piped, width=40), voice=voice))
    assert piped.getvalue().splitlines() == lines
    say_everything(ConsoleReporter(Console(file=shown, width=40, force_terminal=True, color_system=None), voice=voice))
    assert [line for line in lines if line not in shown.getvalue()] == []
    assert ("done in" in shown.getvalue()) == (voice is Voice.DETAILED)


def test_the_silent_reporter_asks_for_no_note() -> None:
    with SilentReporter().task("x", 1) as task:
        task.advance(1, lambda: pytest.fail("a note was made that nobody sees"))
