"""The report as a person meets it: in a real browser, from a file, without a network."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import RunCli
from samples import make_row, paper_row, with_digest
from secateur.errors import SpaceError
from secateur.records.environment import environment
from secateur.records.results import Failure
from secateur.records.schema import SCHEMA_VERSION
from secateur.records.store import FILE_NAME, Store
from secateur.report.writing import write_whole

Open = Callable[..., Any]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs of one network, three seeds, one failed cell."""
    folders = tmp_path / "first", tmp_path / "second"
    for number, folder in enumerate(folders):
        with Store.create(folder) as store:
            for seed in range(3):
                for ratio, accuracy in ((0.0, 0.95), (0.5, 0.948), (0.8, 0.945 - seed / 100), (0.9, 0.6 - number / 10)):
                    store.add(make_row(ratio, seed, accuracy=accuracy))
    with Store.create(folders[1]) as store:
        cell = make_row(0.97).cell
        store.add(Failure(cell, "PruneError: <b>no</b>", "", environment(), "2026-01-01T00:00:00+00:00"))
    return folders


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory, downloads: Path) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium with chromedriver here (Debian: apt-get install chromium chromium-driver)")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
        "--no-first-run", "--disable-dev-shm-usage", "--window-size=1280,1000", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    made = Chrome(options=options, service=ChromeService(driver))
    yield made
    made.quit()


@pytest.fixture
def open_page(browser: Any) -> Open:
    from selenium.webdriver.support.ui import WebDriverWait

    def open_page(path: Path) -> Any:
        browser.get(path.as_uri())
        WebDriverWait(browser, 30).until(
            lambda page: page.execute_script("return document.documentElement.dataset.ready") == "yes"
        )
        return browser

    return open_page


def column(page: Any, number: int) -> list[str]:
    script = (
        "return [...document.querySelectorAll('#results tbody tr')].map(row => row.cells[arguments[0]].textContent)"
    )
    return [str(text) for text in page.execute_script(script, number)]


def press(page: Any, selector: str, number: int = 0) -> Any:
    """A real click on what is seen, as a person would."""
    from selenium.webdriver import ActionChains

    element = page.find_elements("css selector", selector)[number]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    ActionChains(page).move_to_element(element).click().perform()
    return element


def headings(page: Any) -> list[str]:
    script = "return [...document.querySelectorAll('#results th button')].map(each => each.textContent)"
    return [str(text) for text in page.execute_script(script)]


def switched_off(page: Any, plot: str) -> list[str]:
    script = (
        "return document.getElementById(arguments[0]).data.filter(t => t.visible === 'legendonly').map(t => t.name)"
    )
    return [str(name) for name in page.execute_script(script, plot)]


def complaints(page: Any) -> list[Any]:
    return [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def wait(page: Any, condition: Callable[[Any], bool]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, 30).until(condition)


def test_the_report_works_in_a_browser(runs: tuple[Path, Path], run_cli: RunCli, open_page: Open) -> None:
    done = run_cli("report", str(runs[0]))
    assert done.returncode == 0, done.stderr
    page = open_page(runs[0] / "report.html")
    assert len(page.find_elements("css selector", ".js-plotly-plot .main-svg")) >= 6
    assert page.find_element("css selector", ".card b").text == "72.7%"

    press(page, "input[data-density]")
    kind = "return document.getElementById('net-data-accuracy').layout.xaxis.type"
    wait(page, lambda each: each.execute_script(kind) == "log")

    assert headings(page)[:3] == ["seed", "ratio", "accuracy"]  # what is the same in all rows is said once
    press(page, "#results th button", 2)
    ascending = [float(text.split()[0]) for text in column(page, 2)]
    assert ascending == sorted(ascending)
    assert len(set(ascending)) > 3
    press(page, "#results th button", 2)
    assert [float(text.split()[0]) for text in column(page, 2)] == sorted(ascending, reverse=True)
    assert complaints(page) == []


def test_the_numbers_can_be_saved_from_the_page(
    runs: tuple[Path, Path], run_cli: RunCli, open_page: Open, downloads: Path
) -> None:
    assert run_cli("report", str(runs[0])).returncode == 0
    page = open_page(runs[0] / "report.html")
    for number, (name, form) in enumerate((("csv", "csv"), ("json", "json"), ("md", "markdown"), ("tex", "latex"))):
        saved = downloads / f"results.{name}"
        press(page, ".downloads button", number)
        wait(page, lambda _, path=saved: path.exists() and path.stat().st_size > 0)  # type: ignore[misc]
        shown = run_cli("show", str(runs[0]), "--format", form).stdout
        same = json.loads(saved.read_text()) == json.loads(shown) if name == "json" else saved.read_text() == shown
        assert same, name
        saved.unlink()
    assert complaints(page) == []


def test_a_series_is_switched_off_in_the_legend(runs: tuple[Path, Path], run_cli: RunCli, open_page: Open) -> None:
    assert run_cli("report", *map(str, runs), "-o", str(runs[0] / "both.html")).returncode == 0
    page = open_page(runs[0] / "both.html")
    press(page, "#net-data-accuracy .legendtoggle")
    wait(page, lambda each: len(switched_off(each, "net-data-accuracy")) == 2)  # the line and its band
    assert "first" in switched_off(page, "net-data-accuracy")
    assert column(page, 0) == ["first"] * 12 + ["second"] * 12
    warning = page.find_element("css selector", ".warning").text
    assert "1 cell of second failed" in warning
    assert "<b>no</b>" in warning
    assert "Side by side" in [each.text for each in page.find_elements("css selector", "h2")]
    assert complaints(page) == []


def test_the_papers_networks_stand_beside_the_paper(tmp_path: Path, run_cli: RunCli, open_page: Open) -> None:
    with Store.create(tmp_path / "run") as store:
        for ratio in (0.0, 0.25, 0.5, 0.8, 0.625):
            for seed in range(3):
                store.add(paper_row(ratio, seed, 0.9 + seed / 100))
    assert run_cli("report", "run").returncode == 0
    page = open_page(tmp_path / "run" / "report.html")
    title = page.find_element("css selector", ".grid h3").text
    assert title == "Table 1: lenet-5 on mnist, 20 epochs (paper 20), weight decay 0.0005, 3 seeds"
    script = "return [...document.querySelector('.grid tbody').rows].map(row => [...row.cells].map(c => c.textContent))"
    lines = page.execute_script(script)
    assert lines[0] == ["dense", "", "97.94", "95.00 ± 0.00", "-2.94", "95.00 ± 0.00", "-2.94"]
    assert lines[5][:5] == ["80 %", "99.1 %", "90.00", "91.00 ± 2.48", "+1.00"]
    names = page.execute_script("return document.getElementById('paper-0').data.map(trace => trace.name)")
    assert names == ["lenet-5, ours (20 epochs)", "lenet-5, paper"]
    assert complaints(page) == []


def test_the_charts_follow_a_dark_theme(runs: tuple[Path, Path], run_cli: RunCli, open_page: Open) -> None:
    assert run_cli("report", str(runs[0])).returncode == 0
    page = open_page(runs[0] / "report.html")
    ink = "return [getComputedStyle(document.documentElement).getPropertyValue('--ink').trim(), "
    ink += "document.getElementById('net-data-accuracy').layout.font.color]"
    light = page.execute_script(ink)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        wait(page, lambda each: each.execute_script(ink)[1] == each.execute_script(ink)[0] != light[0])
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert light[0] == light[1]


def test_nothing_is_wider_than_a_phone(runs: tuple[Path, Path], run_cli: RunCli, open_page: Open) -> None:
    assert run_cli("report", str(runs[0])).returncode == 0
    page = open_page(runs[0] / "report.html")
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        page = open_page(runs[0] / "report.html")
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_needs_no_network(runs: tuple[Path, Path], run_cli: RunCli, open_page: Open) -> None:
    assert run_cli("report", str(runs[0])).returncode == 0
    page = open_page(runs[0] / "report.html")
    fetched = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in fetched if not name.startswith("data:")] == []


def test_runs_that_cannot_be_reported_say_why(runs: tuple[Path, Path], run_cli: RunCli, tmp_path: Path) -> None:
    Store.create(tmp_path / "empty").close()
    with Store.create(tmp_path / "other") as store:
        store.add(make_row(0.5, model="another"))
    for words, message in (
        (("absent",), "absent is no folder"),
        (("empty",), "empty: it holds no results yet; run its sweep"),
        (("first", "first"), "a run is named twice"),
        (("first", "other"), "no network and data set in common (first: net on data; other: another on data)"),
        (("first", "-o", "/proc/no/report.html"), "cannot be written"),
    ):
        done = run_cli("report", *words)
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        shown = run_cli("show", *words)
        if "-o" not in words:
            assert (shown.returncode, shown.stderr) == (1, done.stderr)
    assert list(tmp_path.rglob("*.writing")) == []


def test_a_newer_or_foreign_database_is_refused(tmp_path: Path, run_cli: RunCli) -> None:
    Store.create(tmp_path / "newer").close()
    with sqlite3.connect(tmp_path / "newer" / FILE_NAME) as database:
        database.execute("PRAGMA user_version = 99")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / FILE_NAME).write_text("not a database, but long enough to be taken for one" * 20)
    (tmp_path / "bare").mkdir()
    for verb in ("show", "report"):
        for name, message in (
            ("newer", f"schema 99 is newer than this Secateur knows ({SCHEMA_VERSION}); upgrade Secateur"),
            ("foreign", "cannot be opened as a Secateur database"),
            ("bare", f"bare has no {FILE_NAME}: expected a run folder; make one with: secateur sweep --out bare"),
        ):
            done = run_cli(verb, name)
            assert message in done.stderr
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert list(tmp_path.rglob("report.html")) == []


def test_failed_cells_are_shown_with_the_others(runs: tuple[Path, Path], run_cli: RunCli, tmp_path: Path) -> None:
    table = run_cli("show", "second")
    assert table.returncode == 0
    assert "failed: net on data, magnitude/layer at 97 %, seed 0: PruneError: <b>no</b>" in table.stdout
    assert "1 failed cell; tracebacks: secateur show second --failures" in table.stdout
    machine = run_cli("show", "second", "--format", "csv")
    assert "failed: net on data" in machine.stderr
    assert len(machine.stdout.splitlines()) == 13
    with Store.create(tmp_path / "none") as store:
        store.add(Failure(make_row(0.5).cell, "PruneError: no", "", environment(), "2026-01-01T00:00:00+00:00"))
    assert "failed: net on data" in run_cli("show", "none").stdout
    assert "all 1 of its cells failed (see secateur show none --failures)" in run_cli("report", "none").stderr


def test_several_runs_are_shown_side_by_side(runs: tuple[Path, Path], run_cli: RunCli) -> None:
    done = run_cli("show", "second", "first")
    assert done.returncode == 0, done.stderr
    lines = [line.split("│") for line in done.stdout.splitlines() if "90 %" in line]
    assert [text.strip() for text in lines[0][1:4]] == ["90 %", "50.00 ± 0.00", "60.00 ± 0.00"]
    assert "bytes of the saved network" in done.stdout
    flat = run_cli("show", "first", "second", "--format", "csv").stdout.splitlines()
    assert (flat[0].split(",")[0], len(flat)) == ("run", 25)
    assert [line.split(",")[0] for line in (flat[1], flat[-1])] == ["first", "second"]
    both = json.loads(run_cli("show", "first", "second", "--format", "json").stdout)
    assert {entry["run"] for entry in both} == {"first", "second"}


def test_runs_that_differ_are_laid_side_by_side_with_a_caution(
    runs: tuple[Path, Path], run_cli: RunCli, tmp_path: Path
) -> None:
    elsewhere = dataclasses.replace(environment(), cpu="another processor")
    with Store.create(tmp_path / "odd") as store:
        store.add(dataclasses.replace(with_digest(make_row(0.5), "d2"), environment=elsewhere))
        store.add(make_row(0.5, model="more"))
    done = run_cli("show", "first", "odd")
    assert done.returncode == 0
    notes = " ".join(line for line in done.stdout.splitlines() if line.startswith("note: "))
    for caution in ("only in odd: more on data", "data was not the same files", "2 machines", "another processor, "):
        assert caution in notes
    assert run_cli("report", "first", "odd").returncode == 0
    assert "data was not the same files" in (runs[0] / "report.html").read_text()


def test_every_figure_is_written_as_svg_and_pdf_and_the_same_again(
    tmp_path: Path, runs: tuple[Path, Path], run_cli: RunCli
) -> None:
    with Store.create(runs[0]) as store:
        for ratio in (0.25, 0.5, 0.625):
            store.add(paper_row(ratio))
    for folder in ("one", "two"):
        done = run_cli("report", "first", "--figures", folder)
        assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "one").iterdir()}
    own = ("accuracy", "bytes", "latency", "time-1", "layers", "macs", "pytorch")
    stems = {f"{network}-{plate}" for network in ("net-data", "lenet-5-mnist") for plate in own}
    stems |= {"paper-figure-4", "paper-readings-lenet-5"}
    assert names == {f"{stem}.{form}" for stem in stems for form in ("svg", "pdf")}
    for name in names:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes()
        assert content.startswith(b"%PDF" if name.endswith("pdf") else b"<?xml")


def test_a_run_without_latencies_has_its_page_too(tmp_path: Path, run_cli: RunCli) -> None:
    with Store.create(tmp_path / "run") as store:
        for ratio in (0.0, 0.5):
            store.add(dataclasses.replace(make_row(ratio), latencies=()))
    done = run_cli("report", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "Accuracy against bytes" in (tmp_path / "run" / "report.html").read_text()


def test_a_file_that_cannot_be_finished_leaves_the_former_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("the former table")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(SpaceError, match=r"table\.csv: cannot be written: No space left on device; make room"):
        write_whole(path, fail)
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["table.csv"]
    assert path.read_text() == "the former table"


def test_a_report_that_fails_leaves_the_former_one(runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.records.selection import Selection
    from secateur.report import load_runs, page

    path = runs[0] / "report.html"
    path.write_text("the former report")
    monkeypatch.setattr(page, "get_plotlyjs", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        page.write_page(load_runs([runs[0]]), path, Selection())
    assert path.read_text() == "the former report"
