"""A model that writes checkpoints while it learns, without RL Zoo."""

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_atari_dqn import CustomDQN
from sb3_atari_dqn.checkpoints.store import CheckpointStore
from sb3_atari_dqn.checkpoints.watcher import Watcher, restore
from sb3_atari_dqn.progress_log import ProgressLogCallback
from tests.waiting import LONG

CARTPOLE: dict[str, Any] = {"learning_starts": 20, "buffer_size": 100, "train_freq": 1, "seed": 3, "device": "cpu"}


def make_model() -> CustomDQN:
    return CustomDQN("MlpPolicy", "CartPole-v1", **CARTPOLE)


class At(BaseCallback):
    """Does something at a number of steps."""

    def __init__(self, **actions: Any) -> None:
        super().__init__()
        self.actions = {int(name.removeprefix("step_")): action for name, action in actions.items()}

    def _on_step(self) -> bool:
        self.actions.get(self.num_timesteps, lambda: None)()
        return True


def steps(store: CheckpointStore) -> list[int]:
    return [store.read_manifest(path).num_timesteps for path in store.manifests()]


def test_a_disk_that_cannot_be_written_to_does_not_stop_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    away = tmp_path / "away"

    def break_disk() -> None:
        store.folder.rename(away)
        store.folder.touch()

    def mend_disk() -> None:
        store.folder.unlink()
        away.rename(store.folder)

    model = make_model()
    with Watcher(model, store, tmp_path, 40):
        model.learn(100, At(step_60=break_disk, step_83=mend_disk))
    assert "No checkpoint could be written at step 80" in capsys.readouterr().err
    assert steps(store) == [100, 84, 40], "tried again after a tenth of the time"
    assert store.find_good()[1] == []


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGHUP, SystemExit)])
def test_signals_leave_a_checkpoint_even_if_nobody_listens(
    number: signal.Signals, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when what the output is piped to has ended by the same Ctrl-C."""
    before = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)  # not ignored
    try:
        reading, writing = os.pipe()
        os.close(reading)
        store, model = CheckpointStore(tmp_path / "checkpoints"), make_model()
        with open(writing, "w", buffering=1) as nobody:
            monkeypatch.setattr("sys.stderr", nobody)
            with pytest.raises(error), Watcher(model, store, tmp_path, None):
                model.learn(100, At(step_60=lambda: signal.raise_signal(number)))
            monkeypatch.undo()
            with contextlib.suppress(BrokenPipeError):
                nobody.close()
    finally:
        signal.signal(number, before)
    (checkpoint,) = (store.read_manifest(path) for path in store.manifests())
    assert (checkpoint.reason, checkpoint.is_exact) == (number.name, True)
    assert checkpoint.num_timesteps >= 60


def test_an_error_behind_a_signal_leaves_a_checkpoint_too(tmp_path: Path) -> None:
    store, model = CheckpointStore(tmp_path / "checkpoints"), make_model()

    def fail() -> None:
        signal.raise_signal(signal.SIGTERM)
        raise BrokenPipeError("of somebody else's output")

    with pytest.raises(BrokenPipeError), Watcher(model, store, tmp_path, None):
        model.learn(100, At(step_60=fail))
    assert steps(store) == [60]


def test_it_goes_on_as_it_would_have(tmp_path: Path) -> None:
    """On a thread too, where signals cannot be watched."""
    store = CheckpointStore(tmp_path / "checkpoints", n_kept=9)
    model = make_model()

    def learn() -> None:
        with Watcher(model, store, tmp_path, 30):
            model.learn(100)

    thread = threading.Thread(target=learn)
    thread.start()
    thread.join(LONG)
    again = make_model()
    checkpoint = store.read_manifest(store.manifests()[2])
    assert checkpoint.num_timesteps == 60
    restore(again, store, checkpoint, store.read_state(checkpoint), [], 3)
    again.learn(40, reset_num_timesteps=False)
    for one, other in zip(model.policy.parameters(), again.policy.parameters(), strict=True):
        assert th.equal(one, other)
    assert model.replay_buffer is not None
    assert again.replay_buffer is not None
    assert np.array_equal(model.replay_buffer.observations, again.replay_buffer.observations)


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    model = make_model()

    def spoil() -> None:
        with th.no_grad():
            next(model.policy.parameters())[0, 0] = float("nan")
        raise RuntimeError

    with pytest.raises(RuntimeError), Watcher(model, store, tmp_path, 40):
        model.learn(100, At(step_50=spoil))
    assert steps(store) == [40]
    assert "the network's weights are not finite. The last one is kept" in capsys.readouterr().err


def test_a_checkpoint_of_a_run_with_other_callbacks_is_refused(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    model = make_model()
    with Watcher(model, store, tmp_path, None, [At(), ProgressLogCallback(str(tmp_path))]):
        model.learn(30)
    checkpoint = store.find_good()[0]
    state = store.read_state(checkpoint)
    for callbacks, here in (([], "none"), ([At()], "At"), ([At(), At()], "At, At")):
        message = f"the run's callbacks are {here}, and those of the checkpoint At, ProgressLogCallback"
        with pytest.raises(ValueError, match=message):
            restore(make_model(), store, checkpoint, state, callbacks, 3)
    restore(make_model(), store, checkpoint, state, [At(), ProgressLogCallback(str(tmp_path))], 3)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    model = make_model()
    with Watcher(model, store, tmp_path, None):
        model.learn(30)
    checkpoint = store.find_good()[0]
    state = store.read_state(checkpoint)
    undescribed = state | {"description": None}  # as that of a model with functions as settings
    for kwargs, message, of_undescribed in (
        ({"policy_kwargs": {"net_arch": [8]}}, r"policy_kwargs=\{\} \(not \{'net_arch': \[8\]\}\)", r"differ|has shape"),
        (
            {"buffer_size": 50},
            r"buffer_size=100 \(not 50\)",
            r"the replay memory has size \[50, 1\], and that of the checkpoint \[100, 1\]",
        ),
    ):
        other = CustomDQN("MlpPolicy", "CartPole-v1", **{**CARTPOLE, **kwargs})
        other.learn(1)
        with pytest.raises(ValueError, match=message):
            restore(other, store, checkpoint, state, [], 3)
        with pytest.raises(ValueError, match=of_undescribed):
            restore(other, store, checkpoint, undescribed, [], 3)
