"""A recorded game for the page: pictures, inputs, Q-values, distributions, saliency and outputs of layers, of each step.

Everything is encoded while the game is played: of the steps that have been seen, only a few are held as arrays. A game that
is too long for the page is thinned: every second step goes, as often as that is needed; the moments to jump to stay.

Source of the moments: Hvass Pedersen 2017, TensorFlow tutorial 16, "Reinforcement Learning".
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_atari_dqn.evaluation.recording import Step
from sb3_atari_dqn.report.network import layer_outputs, q_values, return_distribution, saliency
from sb3_atari_dqn.report.numbers import SCORE_DIGITS, rounded
from sb3_atari_dqn.report.pictures import channels_of

#: bytes of all pictures and distributions, before base64 makes a third more of them
MAX_BYTES = 9_500_000

#: steps whose layers' outputs are shown, besides the moments
N_LAYER_STEPS = 32

#: bytes of all layers' outputs
MAX_LAYER_BYTES = 1_500_000

#: losses of lives to jump to
MAX_LIVES = 12

#: quantiles of a distribution that are shown
MAX_QUANTILES = 32

#: numbers of an observation that are shown where it is no image
MAX_INPUTS = 64

#: of a picture that is not one of Atari's small ones
_MAX_PNG_BYTES, _MAX_WIDTH = 20_000, 480


class _Shown(NamedTuple):
    """A step as it is shown; pictures are keys of what ``_Pictures`` holds."""

    step: Step  # without its arrays
    values: np.ndarray
    picture: str | None
    channels: tuple[str, ...]
    saliency: str | None
    distribution: np.ndarray | None
    inputs: list[float | None] | None

    @property
    def best(self) -> int:
        """The best action, the one taken if there are several."""
        taken = self.step.action
        return taken if self.values[taken] == self.values.max() else int(self.values.argmax())

    def all_pictures(self) -> Iterator[str]:
        """
        :return: keys of all its pictures
        """
        yield from (key for key in (self.picture, *self.channels, self.saliency) if key is not None)


class _Pictures:
    """Encoded pictures, each once however many steps show it: a stack shares all frames but one with the one before."""

    def __init__(self) -> None:
        self.encoded: dict[str, bytes] = {}
        self.n_bytes = 0

    def add(self, picture: np.ndarray, encoded: bytes | None = None) -> str:
        """
        :param picture: uint8 (height, width) or (height, width, 3), red first
        :param encoded: the same as a file, if that is there
        :return: its key
        """
        key = hashlib.blake2b(picture.tobytes(), digest_size=16).hexdigest()
        if key not in self.encoded:
            self.encoded[key] = encode_picture(picture) if encoded is None else encoded
            self.n_bytes += len(self.encoded[key])
        return key

    def keep(self, keys: Iterable[str]) -> None:
        """
        :param keys: of the pictures that are still wanted
        """
        wanted = set(keys)
        self.encoded = {key: encoded for key, encoded in self.encoded.items() if key in wanted}
        self.n_bytes = sum(map(len, self.encoded.values()))


def encode_picture(picture: np.ndarray) -> bytes:
    """
    :param picture: uint8 (height, width) or (height, width, 3), red first
    :return: a PNG file, or a JPEG file where that would be large
    """
    height, width = picture.shape[:2]
    if width > _MAX_WIDTH:
        picture = cv2.resize(picture, (_MAX_WIDTH, round(height * _MAX_WIDTH / width)), interpolation=cv2.INTER_AREA)
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded = _encode(".png", picture, cv2.IMWRITE_PNG_COMPRESSION, 6)
    return encoded if len(encoded) <= _MAX_PNG_BYTES else _encode(".jpg", picture, cv2.IMWRITE_JPEG_QUALITY, 80)


def _encode(kind: str, picture: np.ndarray, *parameters: int) -> bytes:
    succeeded, data = cv2.imencode(kind, picture, parameters)
    assert succeeded
    return data.tobytes()


def encode_saliency(maps: np.ndarray) -> bytes:
    """
    :param maps: float32 (channels, height, width), at least 0
    :return: a JPEG file of half their size, the channels beside each other, black for 0, white for the largest half per cent
    """
    small = [
        cv2.resize(cv2.GaussianBlur(channel, (5, 5), 0), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        for channel in maps
    ]
    tiled = np.hstack(small)
    tiled = np.minimum(tiled / max(float(np.quantile(tiled, 0.995)), 1e-12), 1)  # or a few pixels would outshine all others
    return _encode(".jpg", cv2.applyColorMap((255 * tiled).astype(np.uint8), cv2.COLORMAP_HOT), cv2.IMWRITE_JPEG_QUALITY, 60)


def tile(pictures: np.ndarray) -> np.ndarray:
    """
    :param pictures: uint8 (n, height, width)
    :return: all of them in a grid about as wide as high, a grey pixel between them, uint8 (rows, columns)
    """
    n, height, width = pictures.shape
    n_columns = int(np.ceil(np.sqrt(n)))
    n_rows = -(-n // n_columns)
    grid = np.full((n_rows * (height + 1) + 1, n_columns * (width + 1) + 1), 128, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = 1 + index // n_columns * (height + 1), 1 + index % n_columns * (width + 1)
        grid[top : top + height, left : left + width] = picture
    return grid


class _Moments:
    """The tutorial's moments, as far as the game has come; their steps are held whole."""

    def __init__(self) -> None:
        self.best: dict[str, tuple[float, Step]] = {}
        self.lives: list[Step] = []
        self.n_lost = 0

    def see(self, step: Step, values: np.ndarray) -> None:
        """
        :param step: the next one
        :param values: its Q-values
        """
        spread = float(values.max() - values.min())
        for name, worth in (
            ("reward", step.reward),
            ("q_max", float(values.max())),
            ("largest", spread),
            ("smallest", -spread),
        ):
            if name not in self.best or worth > self.best[name][0]:
                self.best[name] = (worth, step)
        if step.lost_life:
            self.n_lost += 1
            if len(self.lives) < MAX_LIVES:
                self.lives.append(step)

    def steps(self) -> dict[int, Step]:
        """
        :return: the steps by number
        """
        return {step.number: step for step in (*(step for _, step in self.best.values()), *self.lives)}

    def to_json(self, index_of: dict[int, int]) -> dict[str, Any]:
        """
        :param index_of: where each step is among those that are shown, by number
        :return: of each moment, where it is, or why it is nowhere
        """
        moments: dict[str, Any] = {name: {"at": [index_of[step.number]]} for name, (_, step) in self.best.items()}
        if self.best["reward"][0] <= 0:
            moments["reward"] = {"at": [], "missing": "no step of this game had a reward above zero"}
        moments["life"] = {"at": [index_of[step.number] for step in self.lives], "n": self.n_lost}
        if not self.lives:
            moments["life"]["missing"] = "no life was lost in this game"
        return moments


class _Recorder:
    """
    Keeps of a game what is shown.

    :param model: the model that plays
    :param max_bytes: see ``MAX_BYTES``
    """

    def __init__(self, model: BaseAlgorithm, max_bytes: int) -> None:
        self._model = model
        self._max_bytes = max_bytes
        self.stride = 1
        self.shown: dict[int, _Shown] = {}
        self.pictures = _Pictures()
        self.moments = _Moments()
        self.observations: dict[int, np.ndarray] = {}
        self._observation_stride = 1
        self.positions: np.ndarray | None = None
        self._is_distributional = True  # until it turns out that it is not
        self.last: Step | None = None

    def see(self, step: Step) -> None:
        """
        :param step: the next one
        """
        self.last = step
        values = q_values(self._model, step.observation)[0]
        self.moments.see(step, values)
        if step.number % self.stride == 0:
            self.show(step, values)
            while self._n_bytes() > self._max_bytes and len(self.shown) > 2:
                self.stride *= 2
                self.shown = {number: shown for number, shown in self.shown.items() if number % self.stride == 0}
                self.pictures.keep(key for shown in self.shown.values() for key in shown.all_pictures())
        if step.number % self._observation_stride == 0:
            self.observations[step.number] = step.observation
            if len(self.observations) > 2 * N_LAYER_STEPS:
                self._observation_stride *= 2
                self.observations = {n: seen for n, seen in self.observations.items() if n % self._observation_stride == 0}

    def _n_bytes(self) -> int:
        of_one = next(iter(self.shown.values())).distribution
        return self.pictures.n_bytes + (0 if of_one is None else of_one.nbytes * len(self.shown))

    def show(self, step: Step, values: np.ndarray | None = None) -> None:
        """
        :param step: to be shown, whatever its number
        :param values: its Q-values, if they are known
        """
        values = q_values(self._model, step.observation)[0] if values is None else values
        channels: tuple[str, ...] = ()
        salient = inputs = None
        if step.observation.ndim == 3:
            channels = tuple(
                self.pictures.add(np.ascontiguousarray(channel)) for channel in channels_of(self._model, step.observation)
            )
            maps = saliency(self._model, step.observation)
            salient = self.pictures.add(maps, encode_saliency(maps))
        elif step.observation.size <= MAX_INPUTS:
            inputs = [rounded(float(value)) for value in step.observation.ravel()]
        self.shown[step.number] = _Shown(
            step._replace(observation=np.empty(0), picture=None),
            values,
            None if step.picture is None else self.pictures.add(step.picture),
            channels,
            salient,
            self._distribution(step.observation),
            inputs,
        )

    def _distribution(self, observation: np.ndarray) -> np.ndarray | None:
        """
        :return: float32 (n_actions, N): probabilities of ``positions``, or quantiles in order where that is None
        """
        distribution = return_distribution(self._model, observation) if self._is_distributional else None
        if distribution is None:
            self._is_distributional = False
            return None
        returns, probabilities = distribution
        if np.ptp(returns, axis=0).max() == 0:  # the same atoms for all actions
            self.positions = returns[0]
            return probabilities
        in_order = np.sort(returns, axis=1)
        wanted = np.linspace(0, in_order.shape[1] - 1, min(in_order.shape[1], MAX_QUANTILES)).round().astype(int)
        return in_order[:, wanted]


def record_player(
    model: BaseAlgorithm,
    steps: Iterable[Step],
    action_names: Sequence[str],
    channel_names: Sequence[str],
    max_bytes: int = MAX_BYTES,
) -> dict[str, Any]:
    """
    :param model: the model that plays, see ``sb3_atari_dqn.report.network.find_q_network``
    :param steps: of one game
    :param action_names: a name for each action
    :param channel_names: a name for each channel of the input, if that is an image
    :param max_bytes: what pictures and distributions may take, before base64
    :return: the game as the page wants it, for JSON
    :raises ValueError: if the model has no Q-network, or the game has no steps
    """
    recorder = _Recorder(model, max_bytes)
    for step in steps:
        recorder.see(step)
    if recorder.last is None:
        raise ValueError("the game has no steps")
    moments = recorder.moments.steps()
    for step in (*moments.values(), recorder.last):
        if step.number not in recorder.shown:
            recorder.show(step)
    shown = [recorder.shown[number] for number in sorted(recorder.shown)]
    index_of = {of_step.step.number: index for index, of_step in enumerate(shown)}
    picture_index = {key: index for index, key in enumerate(recorder.pictures.encoded)}
    last = recorder.last
    values = np.stack([of_step.values for of_step in shown])
    game: dict[str, Any] = {
        "actions": list(action_names),
        "channels": list(channel_names),
        "n_steps": last.number + 1,
        "stride": recorder.stride,
        "ends": last.ends,
        "score": rounded(last.score + last.reward, SCORE_DIGITS),
        "numbers": list(index_of),
        "taken": [of_step.step.action for of_step in shown],
        "rewards": [rounded(of_step.step.reward, SCORE_DIGITS) for of_step in shown],
        "scores": [rounded(of_step.step.score, SCORE_DIGITS) for of_step in shown],
        "lost_lives": [int(of_step.step.lost_life) for of_step in shown],
        "best": [of_step.best for of_step in shown],
        "q_values": [[rounded(float(value)) for value in of_step] for of_step in values],
        "images": [base64.b64encode(encoded).decode() for encoded in recorder.pictures.encoded.values()],
        "pictures": [None if of_step.picture is None else picture_index[of_step.picture] for of_step in shown],
        "inputs": [[picture_index[key] for key in of_step.channels] for of_step in shown],
        "numbers_seen": [of_step.inputs for of_step in shown],
        "saliency": [None if of_step.saliency is None else picture_index[of_step.saliency] for of_step in shown],
        "moments": recorder.moments.to_json(index_of),
    }
    if shown[0].distribution is not None:
        arrays = np.stack([of_step.distribution for of_step in shown if of_step.distribution is not None])
        positions = None if recorder.positions is None else [rounded(float(value)) for value in recorder.positions]
        data = base64.b64encode(arrays.astype("<f4").tobytes()).decode()
        game["distribution"] = {"positions": positions, "n": arrays.shape[-1], "data": data}
    of_moments = {step.number: step.observation for step in moments.values()}
    # then evenly over the game, so that what the limit leaves out is not its end
    others = sorted(recorder.observations.keys() - of_moments.keys(), key=lambda number: f"{number:b}"[::-1])
    game["layers"] = _layers(model, of_moments | {number: recorder.observations[number] for number in others})
    return game


def _layers(model: BaseAlgorithm, observations: dict[int, np.ndarray]) -> list[dict[str, Any]]:
    """
    :param model: that played
    :param observations: by step, those that matter most first
    :return: outputs of each layer for some of the steps, brightest where the layer's largest is; none without convolutions
    """
    layers: list[dict[str, Any]] = []
    n_bytes = 0
    for number, observation in observations.items():
        try:
            outputs = layer_outputs(model, observation)
        except ValueError:  # it has no convolutions
            return []
        pictures = {}
        for name, output in outputs.items():
            largest = max(float(output.max()), 1e-12)
            grid = tile((255 * output / largest).round().astype(np.uint8))
            encoded = _encode(".png", grid, cv2.IMWRITE_PNG_COMPRESSION, 6)
            n_bytes += len(encoded)
            pictures[name] = {
                "image": base64.b64encode(encoded).decode(),
                "largest": rounded(float(output.max())),
                "shape": list(output.shape),
                "size": [grid.shape[1], grid.shape[0]],
            }
        layers.append({"step": number, "layers": pictures})
        if n_bytes > MAX_LAYER_BYTES:
            break
    return sorted(layers, key=lambda of_step: of_step["step"])
