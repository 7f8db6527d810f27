"""The page of a real run: in a real browser, and what the command says when something is missing."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from sb3_atari_dqn.checkpoints.store import CheckpointStore
from sb3_atari_dqn.progress_log import ProgressLog
from sb3_atari_dqn.report.page import render_page
from sb3_atari_dqn.zoo.commands import main
from sb3_atari_dqn.zoo.report import report
from sb3_atari_dqn.zoo.runs import NO_FINAL_MODEL
from tests.report.runs import train

ENV = "BreakoutNoFrameskip-v4"


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture(scope="module")
def page(short_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "page.html"
    before = sorted(short_run.rglob("*"))
    report([str(short_run), "-o", str(path)])
    assert sorted(short_run.rglob("*")) == before, "nothing is written but the page"
    assert list(path.parent.iterdir()) == [path]
    return path


class Reader:
    """Somebody who looks at the page."""

    def __init__(self, browser: Chrome, page: Path) -> None:
        self.browser = browser
        browser.get(page.as_uri())

    def find(self, css: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        """Of an element, seen or not."""
        return str(self.find(css).get_attribute("textContent"))

    def click(self, css: str) -> None:
        """With the mouse, in the middle of the window, where nothing lies above it."""
        element = self.find(css)
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def run(self, code: str, *arguments: Any) -> Any:
        return self.browser.execute_script(code, *arguments)

    def step(self) -> int:
        return int(str(self.find("#slider").get_property("value")))

    def shown(self) -> dict[str, Any]:
        """Everything that a step changes."""
        return self.run(
            """return {
                label: document.getElementById("step-label").textContent,
                game: document.getElementById("game").src,
                inputs: [...document.querySelectorAll("#inputs img")].map((image) => image.src),
                bars: document.getElementById("bars").textContent,
                widths: [...document.querySelectorAll("#bars .track i")].map((bar) => bar.style.width),
                around: document.getElementById("around").textContent,
                mark: document.getElementById("q-time").layout.shapes[0].x0,
                distribution: document.getElementById("distribution").innerHTML,
            }"""
        )

    def comes_true(self, condition: str) -> bool:
        """Within ten seconds."""
        code = f"""const [done, end] = [arguments[0], Date.now() + 10000];
            (function look() {{ ({condition}) ? done(true) : Date.now() > end ? done(false) : setTimeout(look, 20); }})()"""
        return bool(self.browser.execute_async_script(code))

    def look(self, scheme: str, width: int = 1280) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.fixture
def reader(browser: Chrome, page: Path) -> Iterator[Reader]:
    reader = Reader(browser, page)
    reader.look("light")
    yield reader
    assert browser.get_log("browser") == []
    fetched = reader.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith("data:") for name in fetched)


@pytest.fixture
def game(page: Path) -> dict[str, Any]:
    return data_of(page)["player"]


def test_a_file_of_moderate_size_that_names_no_other(page: Path) -> None:
    text = page.read_text()
    assert len(text) < 25e6
    assert not re.search(
        r"<(script|link|img)[^>]* (src|href)=\"(?!data:)", text.replace('<link rel="icon" href="data:,">', "")
    )


def test_training_and_test(reader: Reader, short_run: Path) -> None:
    charts = reader.run("return [...document.querySelectorAll('#charts .chart')].map((chart) => chart.id)")
    assert charts == [f"chart-{name}" for name in ("scores", "q_values", "loss", "epsilon", "learning_rate", "speed")]
    loss = reader.run("return document.getElementById('chart-loss').data[0].y")
    assert loss == pytest.approx([row["train/loss"] for row in ProgressLog.read(short_run) if "train/loss" in row], rel=1e-5)
    names = reader.run("return document.getElementById('chart-scores').data.map((line) => line.name)")
    assert names == ["games", "mean of 30 games", "evaluations"]
    reader.run("Plotly.relayout('chart-scores', {'xaxis.range[0]': 100, 'xaxis.range[1]': 500})")
    assert reader.run("return document.getElementById('chart-loss').layout.xaxis.range") == [100, 500], "zoom goes along"

    rows = reader.run(
        "return [...document.querySelectorAll('#test-table tr')].map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    by_name = {row[0]: row[1:] for row in rows}
    (of_run,) = (row for name, row in by_name.items() if name.startswith("protocol nature"))
    assert of_run == ["3", "4", "1 to 9", "3.56", "1", "2", "9", "7.99 %"]
    assert by_name["human"][1] == "30.5"
    assert by_name["DQN (Nature, 2015)"][1] == "401.2"
    assert reader.run("return document.getElementById('histogram').data[0].x") == [1, 2, 9]
    assert "(nature)" in reader.text("#facts")
    assert reader.find("#references-card").is_displayed()
    configuration = reader.text("#configuration-body")
    for entry in ("buffer_size", "1000", "NipsCNN", "PyTorch", "stable-baselines3", "n_timesteps"):
        assert entry in configuration


def test_the_slider_moves_picture_and_bars(reader: Reader, game: dict[str, Any]) -> None:
    slider = reader.find("#slider")
    reader.click("#slider")  # its middle
    middle = reader.step()
    assert abs(middle - len(game["numbers"]) / 2) < 5
    at_middle = reader.shown()
    ActionChains(reader.browser).move_to_element_with_offset(slider, slider.size["width"] // 4, 0).click().perform()
    assert reader.step() > middle
    later = reader.shown()
    unchanged = [key for key in at_middle if at_middle[key] == later[key]]
    assert unchanged in ([], ["bars"]), "a network that has learnt little may give the same three digits"
    assert later["label"] == f"step {game['numbers'][reader.step()]} of {game['n_steps'] - 1}"
    assert later["mark"] == game["numbers"][reader.step()]
    taken = game["actions"][game["taken"][reader.step()]]
    assert f"{taken} (taken)" in later["bars"]
    for value in game["q_values"][reader.step()]:
        assert f"{value:.3f}" in later["bars"]
    assert len(later["inputs"]) == 4
    natural = reader.run("const image = document.getElementById('game'); return [image.naturalWidth, image.naturalHeight]")
    assert natural == [160, 210]


def test_keyboard_and_play(reader: Reader, game: dict[str, Any]) -> None:
    last = len(game["numbers"]) - 1
    reader.click("#player h3")
    for key, expected in (
        (Keys.HOME, 0),
        (Keys.ARROW_RIGHT, 1),
        (Keys.ARROW_RIGHT, 2),
        (Keys.ARROW_LEFT, 1),
        (Keys.END, last),
        (Keys.ARROW_RIGHT, last),
        (Keys.HOME, 0),
    ):
        reader.press(key)
        assert reader.step() == expected
    reader.run("document.getElementById('speed').value = '60'")
    reader.press(Keys.SPACE)
    assert reader.text("#play") == "❚❚"
    assert reader.comes_true("document.getElementById('slider').value > 3")
    reader.press(Keys.SPACE)
    assert reader.text("#play") == "▶"
    stopped = reader.step()
    assert stopped > 3
    reader.press(Keys.ARROW_LEFT)
    assert reader.step() == stopped - 1
    reader.run("scrollTo({top: 0, behavior: 'instant'})")
    reader.press(Keys.END)
    assert reader.step() == stopped - 1, "elsewhere on the page, keys scroll"


def test_jumps_to_the_tutorials_moments(reader: Reader, game: dict[str, Any]) -> None:
    for name, moment in game["moments"].items():
        button = reader.find(f"#jump-{name}")
        assert button.is_enabled() == bool(moment["at"])
        if not moment["at"]:
            assert moment["missing"] in reader.text("#jumps")
            continue
        reader.run("document.activeElement.blur()")
        reader.click("#slider")
        reader.press(Keys.HOME)
        for index in moment["at"]:
            if index > reader.step():
                reader.click(f"#jump-{name}")
                assert reader.step() == index
    assert game["moments"]["life"]["at"], "this game has lost lives"
    assert reader.run("return document.querySelectorAll('#around td.taken').length") > 4
    content = "return getComputedStyle(document.querySelector('#around td.taken'), '::after').content"
    assert "(taken)" in reader.run(content)


def test_saliency_and_differences(reader: Reader) -> None:
    overlay = "#inputs .channel-view i"
    assert not reader.find(overlay).is_displayed()
    reader.press(Keys.HOME)
    reader.click("#saliency-switch")
    assert reader.find(overlay).is_displayed()
    assert reader.find(overlay).value_of_css_property("background-image").startswith('url("data:image/jpeg')
    step = reader.step()
    reader.press(Keys.ARROW_RIGHT)
    assert reader.step() == step + 1, "the switch takes no other key than space"
    reader.click("#saliency-switch")
    assert not reader.find(overlay).is_displayed()
    before = reader.shown()["widths"]
    reader.click("#spread-switch")
    assert max(float(width.rstrip("%")) for width in reader.shown()["widths"]) == pytest.approx(100)
    assert reader.shown()["widths"] != before


def test_network(reader: Reader, game: dict[str, Any]) -> None:
    first = reader.find("#outputs").get_property("src")
    assert f"Step {game['layers'][0]['step']}" in reader.text("#outputs-hint")
    reader.click("#outputs-layers button:nth-child(2)")
    second = reader.find("#outputs").get_property("src")
    assert first != second
    assert "32 filters" in reader.text("#outputs-hint")
    reader.click("#inverted")
    assert "invert" in reader.find("#outputs").value_of_css_property("filter")
    unlike = next(index for index, number in enumerate(game["numbers"]) if number not in {of["step"] for of in game["layers"]})
    reader.click("#player h3")
    reader.press(Keys.HOME, *[Keys.ARROW_RIGHT] * unlike)
    assert "the nearest to step" in reader.text("#outputs-hint")

    weights = "const canvas = document.getElementById('weights'); return [canvas.width, canvas.height, canvas.toDataURL()]"
    width, height, channel_0 = reader.run(weights)
    assert (width, height) == (4 * 9 + 1, 4 * 9 + 1)
    reader.click("#weights-channel")
    assert reader.run(weights)[2] != channel_0
    statistics = reader.text("#weights-statistics")
    for word in ("minimum", "maximum", "mean", "standard deviation", "channel 1", "all channels"):
        assert word in statistics
    reader.click("#weights-layers button:nth-child(2)")
    assert "32 filters, 4x4" in reader.text("#weights-hint")


def test_light_and_dark_wide_and_narrow(reader: Reader) -> None:
    def brightness() -> tuple[float, float]:
        colors = (
            reader.find("body").value_of_css_property("background-color"),
            reader.run("return document.querySelector('#q-time .xtick text').style.fill"),
        )
        ground, ticks = ([int(number) for number in re.findall(r"\d+", color)[:3]] for color in colors)
        return sum(ground) / 3, sum(ticks) / 3

    ground, ticks = brightness()
    assert ground > 200 > 100 > ticks
    reader.look("dark")
    ground, ticks = brightness()
    assert ground < 100 < 200 < ticks, "charts change with the page"
    reader.click("#theme")
    assert brightness()[0] > 200
    reader.click("#theme")
    assert brightness()[0] < 100
    for width in (1280, 390):
        reader.look("light", width)
        assert reader.comes_true(f"document.documentElement.scrollWidth <= {width}"), "nothing sticks out"
        assert reader.comes_true(f"document.querySelector('#q-time svg').clientWidth < {width}"), "charts go along"
    columns = reader.run("return getComputedStyle(document.getElementById('charts')).gridTemplateColumns")
    assert len(columns.split()) == 1


def test_a_page_of_a_thinned_game_says_so(browser: Chrome, page: Path, tmp_path: Path) -> None:
    data = data_of(page)
    game = data["player"]
    assert game["stride"] == 1
    for name in ("numbers", "taken", "rewards", "scores", "lost_lives", "q_values", "pictures", "inputs", "saliency"):
        game[name] = game[name][::4]
    game["best"] = game["best"][::4]
    game["numbers_seen"] = game["numbers_seen"][::4]
    game |= {"stride": 4, "ends": False, "distribution": None, "moments": {name: {"at": []} for name in game["moments"]}}
    (tmp_path / "page.html").write_text(render_page("thinned", data))
    reader = Reader(browser, tmp_path / "page.html")
    assert "one of 4 steps" in reader.text("#player-hint")
    assert "the game did not end" in reader.text("#player-hint")
    reader.click("#slider")
    assert game["numbers"][reader.step()] == 4 * reader.step()
    assert f"step {4 * reader.step()} of" in reader.text("#step-label")
    assert not reader.find("#distribution-card").is_displayed()
    assert browser.get_log("browser") == []


def test_numbers_that_are_large_or_none_at_all(browser: Chrome, page: Path, tmp_path: Path) -> None:
    """A network that has diverged is what somebody wants to look at."""
    data = data_of(page)
    (result,) = data["test"]["results"]
    result |= {"mean": 123456.5, "maximum": 1234567.0, "compares": False, "protocol": "machado"}
    data["training"]["facts"]["seconds"] = 379_000
    for values in data["player"]["q_values"]:
        values[1] = None
    data["player"]["q_values"][0] = [None] * 4
    data["network"]["layers"][0]["all"] = [None] * 4
    data["network"]["layers"][0]["channels"][0] |= {"limit": None, "statistics": [None] * 4}
    (tmp_path / "page.html").write_text(render_page("diverged", data))
    reader = Reader(browser, tmp_path / "page.html")
    facts = reader.text("#facts")
    for entry in ("123,456.5", "mean score in tests (machado)", "105.3 h"):
        assert entry in facts
    assert "1,234,567" in reader.text("#test-table")
    assert not reader.find("#references-card").is_displayed(), "sticky actions are another game"
    assert "\N{EN DASH}" in reader.text("#bars")
    assert "\N{EN DASH}" in reader.text("#weights-statistics")
    assert "buffer_size" in reader.text("#configuration-body")
    assert browser.get_log("browser") == []


# ---- what is missing


def test_a_network_without_convolutions(browser: Chrome, tmp_path: Path) -> None:
    run = train(tmp_path / "logs", "dqn_custom", "CartPole-v1", 300, {})
    report([str(run)])
    reader = Reader(browser, run / "report.html")
    assert "left out: The network has no convolutions" in reader.text("#network-missing")
    assert not reader.find("#network-body").is_displayed()
    assert not reader.find("#saliency-label").is_displayed()
    assert len(reader.browser.find_elements(By.CSS_SELECTOR, "#inputs .number-seen")) == 4
    assert "No games were played for a test" in reader.text("#test-missing")
    reader.click("#jump-largest")
    assert reader.find("#game").get_property("naturalWidth") == 480
    assert browser.get_log("browser") == []


def unfinished(short_run: Path, folder: Path) -> Path:
    run = folder / "run"
    shutil.copytree(short_run, run)
    (run / f"{ENV}.zip").unlink()
    return run


def test_a_run_in_progress(short_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = unfinished(short_run, tmp_path)
    report([str(run)])
    data = data_of(run / "report.html")
    assert (data["model"]["file"], data["model"]["steps"]) == ("000001.json", 400)
    assert data["configuration"]["versions"]["training"]["torch"] == data["configuration"]["versions"]["this page"]["torch"]
    assert data["notes"] == [f"{NO_FINAL_MODEL} Its checkpoint at step 400 is taken, 000001.json."]

    store = CheckpointStore(run / "checkpoints")
    store.write(400, 400, {**store.read_state(store.find_good()[0]), "description": None}, [], "of an earlier version")
    report([str(run)])
    data = data_of(run / "report.html")
    assert "000002.json' does not describe its model" in data["notes"][0]
    assert data["model"]["file"] == "best_model.zip"

    os.truncate(run / "checkpoints" / "000001.state.json", 100)
    os.truncate(run / "checkpoints" / "000002.state.json", 100)
    (run / "rl_model_9999_steps.zip").write_bytes(b"PK half")  # being written
    report([str(run)])
    data = data_of(run / "report.html")
    assert data["model"]["file"] == "best_model.zip"
    assert "000001.state.json' has 100 bytes" in data["notes"][0]
    assert "000002.state.json' has 100 bytes" in data["notes"][0]
    assert "still in progress" in data["notes"][1]
    assert "still in progress" in capsys.readouterr().err

    (run / "best_model.zip").unlink()
    shutil.rmtree(run / "checkpoints")
    (run / "progress.csv").unlink()
    report([str(run)])
    data = data_of(run / "report.html")
    assert data["player"] is None
    assert "no model" in data["notes"][0]
    assert data["training"]["missing"] == [
        "progress.csv is missing or empty (runs of earlier versions wrote none): Q-values, loss, epsilon and learning rate of "
        "the training are not known."
    ]
    assert [chart["key"] for chart in data["training"]["charts"]] == ["scores", "speed"]


def test_files_of_monitor_that_are_gone(short_run: Path, tmp_path: Path) -> None:
    run = unfinished(short_run, tmp_path)
    (run / "best_model.zip").unlink()
    shutil.rmtree(run / "checkpoints")
    before = data_of_run(run)
    assert before["facts"]["steps"] == 400
    (run / "1.monitor.csv").unlink()
    missing = data_of_run(run)
    assert missing["missing"] == ["1 of 2 files of Monitor are there: scores of the other games are not shown."]
    last, last_before = (of["charts"][0]["lines"][0]["x"][-1] for of in (missing, before))
    assert last == pytest.approx(last_before, rel=0.4), "environments step together: each has half of the steps"
    assert last <= 400
    (run / "0.monitor.csv").write_text("nonsense\n")
    assert "Monitor's files are damaged" in data_of_run(run)["missing"][-1]
    (run / "0.monitor.csv").unlink()
    (run / "rewards.csv").write_text("episodes,states,reward,mean_30\n1,50,2.0,2.0\n")
    assert "scores are those of rewards.csv" in data_of_run(run)["missing"][-1]


def data_of_run(run: Path) -> dict[str, Any]:
    report([str(run)])
    return data_of(run / "report.html")["training"]


def test_messages(short_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = unfinished(short_run, tmp_path)
    for path in (*empty.glob("*.zip"), *empty.glob("*.csv")):
        path.unlink()
    shutil.rmtree(empty / "checkpoints")
    for arguments, message in (
        ([str(tmp_path)], "is not the folder of a training run"),
        ([str(empty)], "holds no model, such as"),
        ([str(short_run), "--seed", "-1"], "--seed -1 must be from 0 to 4294967295"),
        ([str(short_run), "-o", str(tmp_path)], "is a folder: give the name of a file"),
        ([str(short_run), "-o", str(short_run / "progress.csv" / "page.html")], "progress.csv' is a file, not a folder"),
        ([str(empty), "--load-best"], "best_model.zip' does not exist"),
    ):
        with pytest.raises(SystemExit):
            report(arguments)
        assert message in capsys.readouterr().err
    broken = unfinished(short_run, tmp_path / "2")
    (broken / f"{ENV}.zip").write_text("junk")
    shutil.rmtree(broken / "checkpoints")  # which would be shown in its place
    (broken / "report.html").write_text("the page of before")
    with pytest.raises(SystemExit):
        report([str(broken)])
    assert "is not a model that Stable-Baselines3 saved" in capsys.readouterr().err
    assert (broken / "report.html").read_text() == "the page of before"
    assert not list(broken.glob("report.html.*"))


def test_no_text_ends_the_script() -> None:
    text = "</script><script>alert(1)</script>"
    html = render_page(text, {"title": text})
    assert "alert(1)" in html
    assert "<script>alert" not in html


def test_the_package_knows_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["sb3_atari_dqn", "report", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "usage: python -m sb3_atari_dqn report" in capsys.readouterr().out
