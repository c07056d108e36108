"""The report as a person meets it: in a real browser, from a file, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import RunCli
from samples import make_row
from secateur.environment import environment
from secateur.results import Failure
from secateur.store import Store

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
def browser() -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium with chromedriver here (Debian: apt-get install chromium chromium-driver)")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
        "--no-first-run", "--disable-dev-shm-usage", "--window-size=1280,1000",
    ):  # fmt: skip
        options.add_argument(flag)
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


def test_the_report_works_in_a_browser(runs: tuple[Path, Path], run_cli: RunCli, open_page: Open) -> None:
    done = run_cli("report", str(runs[0]))
    assert done.returncode == 0, done.stderr
    page = open_page(runs[0] / "report.html")
    assert len(page.find_elements("css selector", ".js-plotly-plot")) == 6
    assert page.find_element("css selector", ".card b").text == "72.7%"

    plot = page.find_element("css selector", "#net-data-accuracy")
    visible = "return document.getElementById('net-data-accuracy').data.map(trace => trace.visible ?? true)"
    assert page.execute_script(visible) == [True, True]
    page.execute_script("arguments[0].scrollIntoView()", plot)
    plot_script = "Plotly.restyle('net-data-accuracy', {visible: 'legendonly'}, [0, 1])"
    page.execute_script(plot_script)
    assert page.execute_script(visible) == ["legendonly", "legendonly"]

    page.find_element("css selector", "input[data-density]").click()
    kind = "return document.getElementById('net-data-accuracy').layout.xaxis.type"
    assert page.execute_script(kind) == "log"

    heading = page.find_elements("css selector", "#results th button")[7]
    assert heading.text == "accuracy"
    page.execute_script("arguments[0].click()", heading)
    ascending = [float(text.split()[0]) for text in column(page, 7)]
    assert ascending == sorted(ascending)
    page.execute_script("arguments[0].click()", heading)
    assert [float(text.split()[0]) for text in column(page, 7)] == sorted(ascending, reverse=True)
    assert [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_a_series_is_switched_off_in_the_legend(runs: tuple[Path, Path], run_cli: RunCli, open_page: Open) -> None:
    assert run_cli("report", *map(str, runs), "-o", str(runs[0] / "both.html")).returncode == 0
    page = open_page(runs[0] / "both.html")
    toggle = page.find_elements("css selector", "#net-data-accuracy .legendtoggle")[0]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", toggle)
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    ActionChains(page).move_to_element(toggle).click().perform()
    names = "return document.getElementById('net-data-accuracy').data.filter(t => t.visible === 'legendonly').length"
    WebDriverWait(page, 10).until(lambda each: each.execute_script(names) == 2)  # the line and its band
    assert column(page, 0) == ["first"] * 12 + ["second"] * 12
    warning = page.find_element("css selector", ".warning").text
    assert "1 cells of second failed" in warning
    assert "<b>no</b>" in warning


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
    assert list(tmp_path.rglob("*.writing")) == []


def test_a_report_that_fails_leaves_the_former_one(runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.report import load_runs, page
    from secateur.selection import Selection

    path = runs[0] / "report.html"
    path.write_text("the former report")
    monkeypatch.setattr(page, "get_plotlyjs", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        page.write_page(load_runs([runs[0]]), path, Selection())
    assert path.read_text() == "the former report"
