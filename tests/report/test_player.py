"""A recorded game as the page wants it."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import torch as th

import sb3_atari_dqn.report as report
from sb3_atari_dqn.evaluation.recording import Step
from sb3_atari_dqn.report.player import MAX_LIVES, encode_picture, encode_saliency, record_player, tile
from tests.report.test_pictures import KINDS, make

NAMES = ["NOOP", "FIRE", "RIGHT"]


def steps(n_steps: int, seed: int = 0) -> Iterator[Step]:
    """A game of noise, whose second channel is the first one of the step before; a reward and lost lives in between."""
    rng = np.random.default_rng(seed)
    before = np.zeros((36, 36), dtype=np.uint8)
    for number in range(n_steps):
        now = rng.integers(0, 256, (36, 36), dtype=np.uint8)
        reward = {n_steps // 3 + 1: 5.0, n_steps // 2: 2.0}.get(number, 0.0)
        picture = rng.integers(0, 256, (20, 16, 3), dtype=np.uint8)
        lost_life = number % 10 == 7
        yield Step(
            number, np.stack([now, before], axis=-1), picture, number % 3, reward, 0.0, lost_life, number == n_steps - 1
        )
        before = now


def decode(encoded: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture


def test_each_step_with_its_pictures_and_values() -> None:
    model = make()
    played = list(steps(30))
    game = record_player(model, iter(played), NAMES, ["now", "before"])
    json.dumps(game, allow_nan=False)
    assert (game["n_steps"], game["stride"], game["ends"]) == (30, 1, True)
    assert game["numbers"] == list(range(30))
    for number in (0, 7, 29):
        assert played[number].picture is not None
        np.testing.assert_array_equal(
            decode(base64.b64decode(game["images"][game["pictures"][number]]))[..., ::-1], played[number].picture
        )
        channels = np.stack([decode(base64.b64decode(game["images"][index])) for index in game["inputs"][number]], axis=-1)
        np.testing.assert_array_equal(channels, played[number].observation)
        np.testing.assert_allclose(
            game["q_values"][number], report.q_values(model, played[number].observation)[0], rtol=1e-5, atol=1e-6
        )
        assert decode(base64.b64decode(game["images"][game["saliency"][number]])).shape == (18, 36, 3)
        assert game["best"][number] == int(np.argmax(game["q_values"][number]))
    assert len(game["images"]) == 30 * 3 + 1, "a frame that several steps show is held once"


def test_of_equal_actions_the_one_taken_is_the_best() -> None:
    model = make()
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.zero_()
    game = record_player(model, steps(6), NAMES, ["now", "before"])
    assert game["best"] == game["taken"] == [0, 1, 2, 0, 1, 2]


def test_the_tutorials_moments() -> None:
    model = make()
    played = list(steps(120))
    game = record_player(model, iter(played), NAMES, ["now", "before"])
    values = np.concatenate([report.q_values(model, step.observation) for step in played])
    spread = values.max(axis=1) - values.min(axis=1)
    moments = game["moments"]
    assert moments["reward"]["at"] == [41]
    assert moments["q_max"]["at"] == [values.max(axis=1).argmax()]
    assert moments["largest"]["at"] == [spread.argmax()]
    assert moments["smallest"]["at"] == [spread.argmin()]
    assert moments["life"]["at"] == [7, 17, 27, 37, 47, 57, 67, 77, 87, 97, 107, 117]
    quiet = (step._replace(lost_life=False, reward=-1.0) for step in played)
    moments = record_player(model, quiet, NAMES, [])["moments"]
    assert moments["reward"]["at"] == moments["life"]["at"] == []
    assert "no step of this game had a reward above zero" in moments["reward"]["missing"]
    assert "no life was lost" in moments["life"]["missing"]


def test_a_long_game_is_thinned_and_its_moments_stay() -> None:
    model = make()
    game = record_player(model, steps(600), NAMES, ["now", "before"], max_bytes=150_000)
    stride = game["stride"]
    assert stride > 1
    assert game["n_steps"] == 600
    moments = {game["numbers"][index] for moment in game["moments"].values() for index in moment["at"]}
    assert game["numbers"] == sorted({*range(0, 600, stride), *moments, 599})
    assert 201 in moments
    assert len(game["moments"]["life"]["at"]) == MAX_LIVES
    assert game["moments"]["life"]["n"] == 60
    n_extra = len(moments) + 1
    assert sum(map(len, game["images"])) * 3 / 4 < 150_000 * (1 + n_extra / (600 / stride)) * 1.2
    assert {index for indices in game["inputs"] for index in indices} < set(range(len(game["images"])))
    of_layers = [of_step["step"] for of_step in game["layers"]]
    assert moments <= set(of_layers)
    assert np.diff(of_layers).max() <= 600 / 16, "evenly over the game"


@pytest.mark.parametrize("kind", ["categorical", "quantile", "implicit-quantile", "QRDQN", "expectation"])
def test_distributions(kind: str) -> None:
    model = KINDS[kind]()
    played = list(steps(4))
    game = record_player(model, iter(played), NAMES, [])
    if kind == "expectation":
        assert "distribution" not in game
        return
    of_page: dict[str, Any] = game["distribution"]
    arrays = np.frombuffer(base64.b64decode(of_page["data"]), "<f4").reshape(4, 3, of_page["n"])
    expected = report.return_distribution(model, played[2].observation)
    assert expected is not None
    if kind == "categorical":
        assert of_page["positions"] == [-3, -2, -1, 0, 1, 2, 3]
        np.testing.assert_allclose(arrays[2], expected.probabilities, rtol=1e-5)
    else:
        assert of_page["positions"] is None
        assert (np.diff(arrays, axis=-1) >= 0).all()
        np.testing.assert_allclose(arrays[2][:, -1], expected.returns.max(axis=1), rtol=1e-5)


def test_pictures() -> None:
    grid = tile(np.stack([np.full((2, 3), number, dtype=np.uint8) for number in range(5)]))
    assert grid.shape == (2 * 3 + 1, 3 * 4 + 1)
    np.testing.assert_array_equal(grid[1], [128, 0, 0, 0, 128, 1, 1, 1, 128, 2, 2, 2, 128])
    assert (grid[4:6, 9:12] == 128).all(), "an empty place is grey"
    noise = np.random.default_rng(0).integers(0, 256, (300, 960, 3), dtype=np.uint8)
    encoded = encode_picture(noise)
    assert encoded[:2] == b"\xff\xd8", "JPEG where PNG would be large"
    assert decode(encoded).shape == (150, 480, 3)
    maps = np.zeros((2, 40, 40), dtype=np.float32)
    maps[1, 20:, :] = 3.0
    shown = decode(encode_saliency(maps))
    assert shown.shape == (20, 40, 3)
    assert shown[:8].max() < 30
    assert shown[15:, 25:35].min() > 200
