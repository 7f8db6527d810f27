"""
No command runs what is in a file of a run's folder, or of the current folder, unless it is told to trust it.

A canary is a payload that makes a file, "is born", when it is unpickled, called, evaluated or imported. The files are those of
real runs. Each file that a command opens is replaced by canaries of every kind, one file at a time; so are the texts in its
configuration and in its checkpoint. Files that a command does not open are replaced all at once.
"""

import base64
import contextlib
import copy
import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from rl_zoo3.utils import get_class_by_name
from stable_baselines3 import DQN
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_atari_dqn.checkpoints.store import FOLDER, CheckpointStore
from sb3_atari_dqn.zoo.compare import compare
from sb3_atari_dqn.zoo.evaluate import evaluate
from sb3_atari_dqn.zoo.experiment import ZOO_KEYS
from sb3_atari_dqn.zoo.export import export
from sb3_atari_dqn.zoo.plot import plot
from sb3_atari_dqn.zoo.report import report
from sb3_atari_dqn.zoo.resume import resume
from tests.report.runs import train
from tests.saving.models import Touch, torch_file
from tests.zoo.experiments import make_experiment

ENV_ID = "CartPole-v1"
HYPERPARAMS: dict[str, Any] = {
    "policy": "MlpPolicy",
    "n_timesteps": 200,
    "n_envs": 1,
    "normalize": True,
    "buffer_size": 300,
    "learning_starts": 50,
    "batch_size": 8,
    "train_freq": 4,
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [8]},
    "checkpoint_freq": 100,
}
GAME = "BreakoutNoFrameskip-v4"
GAME_HYPERPARAMS: dict[str, Any] = {
    "n_envs": 1,
    "buffer_size": 64,
    "batch_size": 4,
    "replay_fraction": 0.6,
    "native_envs": False,
    "policy_kwargs": {"features_extractor_class": "NipsCNN"},
    "env_kwargs": {"max_num_frames_per_episode": 120},
}
EVALUATED = {"eval_freq": 100, "n_eval_episodes": 1, "log_interval": 1}

#: each command that reads a run, with the arguments after the run's folder
Command = tuple[Callable[[list[str]], None], list[str]]
COMMANDS: dict[str, Command] = {
    "evaluate": (evaluate, ["--episodes", "1"]),
    "evaluate the best model": (evaluate, ["--episodes", "1", "--load-best"]),
    "export": (export, ["--safetensors", "exported.safetensors"]),
    "export the best model": (export, ["--safetensors", "exported.safetensors", "--load-best"]),
    "report": (report, []),
    "plot": (plot, []),
    "resume": (resume, ["-n", "204"]),
}
COMMANDS_ON_A_GAME: dict[str, Command] = {
    "report": (report, []),
    "compare": (compare, []),
    "compare what was seen in training": (compare, ["--protocol", "training"]),
}

pytestmark = pytest.mark.filterwarnings("ignore:evaluations of .* are not shown", "ignore:training ends at step")

_opened: set[Path] | None = None


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened.add(Path(os.fsdecode(arguments[0])).absolute())


sys.addaudithook(_note_opened)  # which stays for as long as the process does


def call(command: Command, run: Path, *more: str) -> tuple[str, set[Path]]:
    """What a command says, and which files it has opened; that it refuses a run is as good as that it works."""
    global _opened
    said, _opened = io.StringIO(), set()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
            command[0]([str(run), *command[1], *more])
        return said.getvalue(), _opened
    finally:
        _opened = None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run with normalised observations, and every file that RL Zoo writes."""
    logs = tmp_path_factory.mktemp("logs")
    made = train(
        logs, "dqn_custom", ENV_ID, 200, HYPERPARAMS, resumable=True, save_freq=100, save_replay_buffer=True, **EVALUATED
    )
    plot([str(made)])
    return made


@pytest.fixture(scope="module")
def run_on_a_game(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run with the logs of ``dqn_sweep``, and an evaluation by a protocol."""
    made = train(tmp_path_factory.mktemp("logs"), "dqn_sweep", GAME, 64, GAME_HYPERPARAMS, resumable=True, log_interval=1)
    evaluate([str(made), "--episodes", "1", "--protocol", "nature"])
    return made


class Canary:
    """
    Payloads that make a file.

    :param folder: for it, and for a module that makes it when it is imported
    """

    def __init__(self, folder: Path) -> None:
        self._marker = folder / "canary"
        (folder / "canary_module.py").write_text(f"open({str(self._marker)!r}, 'w').close()\nThing = dict\n")
        self.touch = Touch(self._marker)
        self.tag = f"!!python/object/apply:os.system ['touch {self._marker}']"
        self.text = f"__import__('os').system('touch {self._marker}')"
        self.name = "canary_module.Thing"

    def is_born(self) -> bool:
        born = self._marker.exists()
        self._marker.unlink(missing_ok=True)
        sys.modules.pop("canary_module", None)
        return born

    def files(self, original: Path) -> dict[str, bytes]:
        """
        :param original: file of a run
        :return: what it could be replaced by
        """
        array = io.BytesIO()
        np.save(array, np.array([self.touch], dtype=object), allow_pickle=True)
        serialized = {":type:": "anything", ":serialized:": base64.b64encode(pickle.dumps(self.touch)).decode()}
        members = {
            "data": json.dumps({"policy_class": serialized}).encode(),  # Stable-Baselines3's
            "policy.pth": torch_file(self.touch),
            "timesteps.npy": array.getvalue(),
            "results.npy": array.getvalue(),
        }
        found = {
            "pickle": pickle.dumps(self.touch),
            "array": array.getvalue(),
            "zip": _zip(members),
            "torch": torch_file(self.touch),
            "yaml": f"env: {ENV_ID}\nalgo: {self.tag}\n".encode(),
        }
        if zipfile.is_zipfile(original):
            found |= {f"zip with {what}": content for what, content in self._zips(original, members, serialized)}
        if original.suffix == ".yml":
            values = yaml.dump(dict(yaml.unsafe_load(original.read_text())))
            found["a tag at the end"] = f"{values}canary: {self.tag}\n".encode()
        return found

    def _zips(self, original: Path, members: dict[str, bytes], serialized: dict[str, str]) -> Iterator[tuple[str, bytes]]:
        contents = _unzip(original)
        for name in contents:
            suffix = Path(name).suffix
            if suffix in (".pth", ".npy"):
                payload = next(content for other, content in members.items() if other.endswith(suffix))
                yield name, _zip({**contents, name: payload})
        if "data" in contents:
            values = json.loads(contents["data"])
            policy_kwargs = {"features_extractor_class": self.name}
            for what, changed in {
                **{key: {key: serialized} for key in ("gamma", "policy_class", "observation_space", "canary")},
                "a name": {"policy_kwargs": policy_kwargs},
            }.items():
                yield what, _zip({**contents, "data": json.dumps(values | changed).encode()})


def _unzip(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    monkeypatch.syspath_prepend(tmp_path)
    return Canary(tmp_path)


def copy_run(run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil, which is the current folder, too: RL Zoo looks for files there."""
    shutil.rmtree(folder / "copy", ignore_errors=True)
    copied = folder / "copy" / run.parent.name / run.name
    shutil.copytree(run, copied)
    monkeypatch.chdir(copied)
    return copied


def check_files(
    command: Command,
    run: Path,
    canary: Canary,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: Collection[str] = (),
) -> None:
    files = {path.relative_to(run) for path in run.rglob("*") if path.is_file()}
    said, opened = call(command, copied := copy_run(run, folder, monkeypatch))
    assert "error:" not in said, "or it would be no wonder that nothing is run"
    read = sorted(name for name in files if copied / name in opened)
    assert read
    for name in (name for name in read if name.name not in known):
        for kind, content in canary.files(run / name).items():
            (copy_run(run, folder, monkeypatch) / name).write_bytes(content)
            call(command, copied)
            assert not canary.is_born(), f"{name} was run, {kind}"
    copy_run(run, folder, monkeypatch)
    for name in files - set(read):
        (copied / name).write_bytes(pickle.dumps(canary.touch))
    assert "error:" not in call(command, copied)[0]
    assert not canary.is_born(), "a file was run that was not opened before"


@pytest.mark.parametrize("name", COMMANDS)
def test_files(name: str, run: Path, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_files(COMMANDS[name], run, canary, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", COMMANDS_ON_A_GAME)
def test_files_of_a_game(
    name: str, run: Path, run_on_a_game: Path, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {path.name for path in run.rglob("*")} if name in COMMANDS else ()
    check_files(COMMANDS_ON_A_GAME[name], run_on_a_game, canary, tmp_path, monkeypatch, known)


#: where a value is in nested dictionaries and lists
Place = tuple[Any, ...]


def places(document: Any, place: Place = ()) -> Iterator[Place]:
    """Where values are that hold no others."""
    items = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    if not items and place:
        yield place
    for key, value in items:
        yield from places(value, (*place, key))


def replaced(document: Any, chosen: Sequence[Place], value: Any) -> Any:
    copied = copy.deepcopy(document)
    for *holders, key in chosen:
        inner = copied
        for holder in holders:
            inner = inner[holder]
        inner[key] = value
    return copied


def check_values(
    write: Callable[[Any], Path], document: Any, chosen: Sequence[Place], value: Any, command: Command, canary: Canary
) -> None:
    """Replace many values at once. If that is refused, not all may have been read: then half of them each."""
    copied = write(replaced(document, chosen, value))
    said = "error:"
    with contextlib.suppress(Exception):  # values may be nonsense, such as a list for a file's name
        said, _ = call(command, copied)
    assert not canary.is_born(), f"{value} was run, as one of {chosen}"
    if "error:" in said and len(chosen) > 1:
        for half in (chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]):
            check_values(write, document, half, value, command, canary)


@pytest.mark.parametrize("file", ["args.yml", "config.yml"])
@pytest.mark.parametrize("name", ["evaluate", "export", "report", "plot", "resume"])
def test_values_in_yaml(
    name: str, file: str, run: Path, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document: Any = dict(yaml.unsafe_load((run / ENV_ID / file).read_text()))
    keys = dict.fromkeys([*document, *(sorted(ZOO_KEYS | {"replay_buffer_class", "replay_buffer_kwargs"}))])

    def write(spoiled: Any) -> Path:
        copied = copy_run(run, tmp_path, monkeypatch)
        (copied / ENV_ID / file).write_text(yaml.dump(spoiled))
        return copied

    for key in ("callback", "env_wrapper", "vec_env_wrapper"):
        check_values(write, document, [(key,)], [{canary.name: {}}], COMMANDS[name], canary)
    values = [canary.text, repr(canary.text), canary.name]
    for value in values[:1] if name == "report" else values:  # it takes long, and reads both files as evaluate does
        check_values(write, document, [(key,) for key in keys], value, COMMANDS[name], canary)
        check_values(write, document, [place for place in places(document) if len(place) > 1], value, COMMANDS[name], canary)


@pytest.mark.parametrize("name", ["evaluate", "resume"])
def test_values_in_a_checkpoint(name: str, run: Path, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run without its last model, so that all commands read the checkpoint; checksums are right again."""
    saved = CheckpointStore(run / FOLDER)
    checkpoint, _ = saved.find_good()
    state = saved.read_state(checkpoint)
    document = {**state, "description": json.loads(state["description"])}

    def write(spoiled: Any) -> Path:
        copied = copy_run(run, tmp_path, monkeypatch)
        (copied / f"{ENV_ID}.zip").unlink()
        spoiled = {**spoiled, "description": json.dumps(spoiled["description"])}
        steps = checkpoint.num_timesteps, checkpoint.n_timesteps
        CheckpointStore(copied / FOLDER).write(*steps, spoiled, checkpoint.segments, checkpoint.reason)
        return copied

    assert "error:" not in call(COMMANDS[name], write(document))[0]
    texts = [place for place in places(document) if isinstance(reduce(getitem, place, document), str)]
    texts = list({place[-1]: place for place in texts}.values())  # one of each kind
    for value in (canary.text, canary.name):
        check_values(write, document, texts, value, COMMANDS[name], canary)


def test_train_reads_nothing_that_nobody_named(
    run: Path, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RL Zoo would unpickle ``CartPole-v1/vecnormalize.pkl`` of the current folder for a new training."""
    copied = copy_run(run, tmp_path, monkeypatch)
    (copied / ENV_ID / "vecnormalize.pkl").write_bytes(pickle.dumps(canary.touch))
    make_experiment(tmp_path / "new", ENV_ID, n_timesteps=10, hyperparams=HYPERPARAMS).setup_experiment()
    assert not canary.is_born()


def test_the_canaries_can_be_born(run: Path, canary: Canary, tmp_path: Path) -> None:
    """Each payload is run by what reads such files without care."""
    file = tmp_path / "file"
    readers: dict[str, list[Callable[[], Any]]] = {
        "pickle": [lambda: pickle.loads(file.read_bytes())],
        "array": [lambda: np.load(file, allow_pickle=True)],
        "zip": [
            lambda: DQN.load(io.BytesIO(file.read_bytes())),
            lambda: np.load(file, allow_pickle=True)["results"],
        ],
        "torch": [lambda: th.load(file, weights_only=False)],
        "yaml": [lambda: yaml.unsafe_load(file.read_text())],
        "a tag at the end": [lambda: yaml.unsafe_load(file.read_text())],
        **{f"zip with {what}": [lambda: DQN.load(file)] for what in ("gamma", "policy_class", "observation_space", "canary")},
    }
    for original in (run / f"{ENV_ID}.zip", run / ENV_ID / "args.yml"):
        for kind, content in canary.files(original).items():
            file.write_bytes(content)
            for read in readers.get(kind, []):
                with contextlib.suppress(Exception):
                    read()
                assert canary.is_born(), kind
    readers_of_texts: list[Callable[[], Any]] = [
        lambda: eval(canary.text),
        lambda: eval(eval(repr(canary.text))),
        lambda: get_class_by_name(canary.name),
    ]
    for read in readers_of_texts:
        read()
        assert canary.is_born()


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        *((name, f"{ENV_ID}/args.yml", "a tag at the end") for name in COMMANDS if name != "plot"),
        ("compare", f"{ENV_ID}/args.yml", "a tag at the end"),
        ("resume", f"{ENV_ID}/config.yml", "a tag at the end"),
        *((name, f"{ENV_ID}/vecnormalize.pkl", "pickle") for name in ("evaluate", "report")),
        *((name, f"{ENV_ID}.zip", "zip with canary") for name in ("evaluate", "export", "report")),
    ],
)
def test_files_are_run_where_they_are_trusted(
    name: str, file: str, kind: str, run: Path, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = copy_run(run, tmp_path, monkeypatch)
    (copied / file).write_bytes(canary.files(run / file)[kind])
    shutil.rmtree(copied / FOLDER) if file.endswith(".zip") else None  # or the checkpoint is taken for a damaged model
    with contextlib.suppress(Exception):
        call({**COMMANDS, "compare": (compare, [])}[name], copied, "--trust")
    assert canary.is_born()


@pytest.mark.parametrize(
    ("file", "kind"),
    [(f"{ENV_ID}.zip", "zip with canary"), (f"{ENV_ID}/vecnormalize.pkl", "pickle"), ("replay_buffer.pkl", "pickle")],
)
def test_train_runs_the_model_that_a_user_names(
    file: str, kind: str, run: Path, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RL Zoo's ``train -i``, as docs/files.md says."""
    copied = copy_run(run, tmp_path, monkeypatch)
    (copied / file).write_bytes(canary.files(run / file)[kind])
    experiment = make_experiment(
        tmp_path / "new", ENV_ID, n_timesteps=10, hyperparams=HYPERPARAMS, trained_agent=str(copied / f"{ENV_ID}.zip")
    )
    with contextlib.suppress(Exception):
        experiment.setup_experiment()
    assert canary.is_born()


def test_honest_averages_need_no_trust(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = copy_run(run, tmp_path, monkeypatch)
    scores = {}
    for trust in ([], ["--trust"]):
        call(COMMANDS["evaluate"], copied, "--seed", "3", "--json", "scores.json", *trust)
        scores[bool(trust)] = json.loads((copied / "scores.json").read_text())["episodes"]
    assert scores[False] == scores[True]
    (copied / ENV_ID / "vecnormalize.pkl").unlink()
    for name in ("evaluate", "report"):
        said = " ".join(call(COMMANDS[name], copied)[0].split())
        assert "vecnormalize.pkl', which holds the running averages of normalised environments, does not exist" in said


def test_resume_takes_averages_from_the_checkpoint(
    run: Path, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pickle is only written."""
    copied = copy_run(run, tmp_path, monkeypatch)
    statistics = copied / ENV_ID / "vecnormalize.pkl"
    before = _n_averaged(statistics)
    statistics.write_bytes(pickle.dumps(canary.touch))
    assert "error:" not in call((resume, ["-n", "300"]), copied)[0]
    assert not canary.is_born()
    assert _n_averaged(statistics) - before == pytest.approx(100, abs=1)


def _n_averaged(statistics: Path) -> float:
    averages = VecNormalize.load(str(statistics), DummyVecEnv([lambda: gym.make(ENV_ID)])).obs_rms
    assert isinstance(averages, RunningMeanStd)
    return averages.count
