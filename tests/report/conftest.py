"""One short run, trained once, and a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from sb3_atari_dqn.evaluation.play import Episode
from sb3_atari_dqn.evaluation.results import Evaluation
from tests.report.runs import train_short


@pytest.fixture(scope="session")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a test of three games; nobody writes into it."""
    run = train_short(tmp_path_factory.mktemp("logs"))
    episodes = tuple(Episode(score, 100, 400, seed, 0) for seed, score in enumerate((1.0, 2.0, 9.0)))
    model = str(run / "BreakoutNoFrameskip-v4.zip")
    Evaluation("nature", {"n_episodes": 3}, "BreakoutNoFrameskip-v4", "short", model, "dqn_custom", 1, 800, 0, episodes).save(
        run / "evaluation_nature.json", "breakout"
    )
    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver are installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, Service(driver))
    yield chrome
    chrome.quit()
