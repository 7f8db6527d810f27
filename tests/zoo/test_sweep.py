"""Sweeps of several games: what is in their lists, what a run needs next, and who answers for Ray."""

import http.server
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from sb3_atari_dqn.checkpoints import store as store_module
from sb3_atari_dqn.evaluation.play import Episode
from sb3_atari_dqn.evaluation.results import Evaluation
from sb3_atari_dqn.zoo.plans import (
    Run,
    check_folder,
    format_status,
    next_command,
    read_plan,
    runs_of,
    train_command,
    write_plan,
)
from sb3_atari_dqn.zoo.sweep import ablation, sweep
from sb3_atari_dqn.zoo.trainings import Processes, shares_of_cores, train_and_play
from tests.waiting import LONG, wait_for
from tests.zoo.test_ablation import SMALL, write

GAMES = ["BreakoutNoFrameskip-v4", "PongNoFrameskip-v4"]

SEVERAL: dict[str, Any] = {**{name: value for name, value in SMALL.items() if name != "env"}, "envs": GAMES}


def read_small(tmp_path: Path, **changes: Any) -> Any:
    return read_plan(write(tmp_path / "small.yml", {**SEVERAL, **changes}))


def make_model(experiment: Path, name: str, steps: int) -> None:
    experiment.mkdir(parents=True)
    with zipfile.ZipFile(experiment / f"{name}.zip", "w") as model:
        model.writestr("data", json.dumps({"policy_class": {}, "num_timesteps": steps}))


def write_checkpoint(run: Run, steps: int) -> None:
    run.checkpoints.prepare()
    run.checkpoints.write(steps, 400, {"steps": steps}, [], "every")


def test_runs_of_several_games(tmp_path: Path) -> None:
    plan = read_small(tmp_path, seeds=[1, 2])
    runs = list(runs_of(plan, tmp_path / "runs"))
    assert [(run.seed, run.env, run.label) for run in runs] == [
        (seed, env, label) for seed in (1, 2) for env in GAMES for label in ("plain", "with C51")
    ]
    assert len({run.folder for run in runs}) == len(runs)
    assert runs[1].experiment == tmp_path / f"runs/{GAMES[0]}/with_C51/seed_1/dqn_custom/{GAMES[0]}_1"
    for run in runs:
        command = train_command(plan, run, "cpu")
        assert command[command.index("--env") + 1] == run.env
    lines = format_status(plan, runs).splitlines()
    assert [line.split()[0].rstrip(",") for line in lines] == [GAMES[0], "plain", "with", GAMES[1], "plain", "with"]
    runs[0].experiment.mkdir(parents=True)
    (runs[0].experiment / "progress.csv").write_text("steps,train/loss\n80,0.5\n160,0.4\n")
    assert re.fullmatch(r"plain +40 % +-", format_status(plan, runs).splitlines()[1])
    one = read_plan(write(tmp_path / "one.yml", SMALL))
    assert next(runs_of(one, tmp_path)).folder == tmp_path / "plain" / "seed_1"  # where ablations have always been


def test_what_a_run_needs_next(tmp_path: Path) -> None:
    plan = read_small(tmp_path)
    run = next(iter(runs_of(plan, tmp_path / "runs")))
    begin = train_command(plan, run, "cpu")
    go_on = ["sb3_atari_dqn", "resume", str(run.experiment), "--device", "cpu", "--trust"]
    assert next_command(plan, run, "cpu") == begin

    make_model(run.experiment, run.env, 399)  # Ctrl-C makes RL Zoo save the model of an unfinished run
    assert next_command(plan, run, "cpu") == begin

    (run.experiment / "checkpoints").mkdir()
    (run.experiment / "checkpoints" / "000001.state.json").touch()  # of a checkpoint that was never whole
    assert next_command(plan, run, "cpu") == begin
    for steps in (100, 200):
        write_checkpoint(run, steps)
    assert next_command(plan, run, "cpu") == go_on
    os.truncate(run.checkpoints.folder / "000002.state.json", 3)
    assert next_command(plan, run, "cpu") == go_on
    os.truncate(run.checkpoints.folder / "000001.json", 3)
    assert next_command(plan, run, "cpu") == begin
    write_checkpoint(run, 300)
    assert next_command(plan, run, "cpu") == go_on

    (run.experiment / f"{run.env}.zip").unlink()
    assert next_command(plan, run, "cpu") == go_on
    with zipfile.ZipFile(run.experiment / f"{run.env}.zip", "w") as model:
        model.writestr("data", json.dumps({"policy_class": {}, "num_timesteps": 400}))
    assert next_command(plan, run, "cpu") is None


class Starts:
    """Says that every command failed, and remembers them."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def __call__(self, command: list[str], log: Path) -> bool:
        self.commands.append(command[1])
        with log.open("a") as file:
            file.write("no such luck\n")
        return False


def test_what_is_there_is_kept_where_a_run_can_go_on(tmp_path: Path) -> None:
    plan = read_small(tmp_path)
    begun, stopped, lost = list(runs_of(plan, tmp_path / "runs"))[:3]
    for run in (begun, stopped, lost):
        (run.experiment / "checkpoints").mkdir(parents=True)
        (run.experiment / "0.monitor.csv").touch()
    for run in (begun, lost):
        write_checkpoint(run, 100)
    os.truncate(lost.checkpoints.folder / "000001.state.json", 3)
    start = Starts()
    for run in (begun, stopped, lost):
        assert not train_and_play(plan, run, "cpu", start)
    assert start.commands == ["resume", "train", "train"]
    assert (begun.experiment / "0.monitor.csv").is_file()
    assert not stopped.experiment.exists()
    assert not lost.experiment.exists()
    said, after = (lost.folder / "train.txt").read_text().splitlines()
    assert "holds no checkpoint that is whole: " in said
    assert "000001.state.json' has 3 bytes" in said
    assert said.endswith(f"is put aside, in {str(lost.folder / 'broken_1')!r}, and it begins anew")
    assert after == "no such luck"
    assert (lost.folder / "broken_1" / lost.experiment.name / "0.monitor.csv").is_file()


def test_checkpoints_of_another_version_are_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = read_small(tmp_path)
    run = next(iter(runs_of(plan, tmp_path / "runs")))
    with monkeypatch.context() as future:
        future.setattr(store_module, "FORMAT", 7)
        write_checkpoint(run, 100)
    start = Starts()
    with pytest.raises(ValueError, match=r"in format 7, and this is .* they are not compatible"):
        train_and_play(plan, run, "cpu", start)
    assert start.commands == []
    assert len(run.checkpoints.manifests()) == 1


def test_waits_for_whoever_is_still_training_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl", reason="there are no locks on this system")
    plan = read_small(tmp_path)
    run = next(iter(runs_of(plan, tmp_path / "runs")))
    run.experiment.mkdir(parents=True)
    monkeypatch.setattr("sb3_atari_dqn.zoo.trainings._LOCKED_PAUSE", 0.05)
    was_held = []

    def start(command: list[str], log: Path) -> bool:
        was_held.append(not lock.closed)
        return False

    with (run.experiment / "training.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="is being trained by another process"):
            train_and_play(plan, run, "cpu", start)
        assert run.experiment.is_dir()
        waiting = threading.Thread(target=train_and_play, args=(plan, run, "cpu", start))
        waiting.start()
        time.sleep(0.2)
    waiting.join(LONG)
    assert was_held == [False]


def test_two_sweeps_do_not_do_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl", reason="there are no locks on this system")
    plan = read_small(tmp_path)
    run = next(iter(runs_of(plan, tmp_path / "runs")))
    monkeypatch.setattr("sb3_atari_dqn.zoo.trainings._LOCKED_PAUSE", 0.05)
    has_begun, may_end = threading.Event(), threading.Event()

    def train_and_evaluate(command: list[str], log: Path) -> bool:
        if "evaluate" not in command:
            make_model(run.experiment, run.env, plan.n_timesteps)
            has_begun.set()
            return may_end.wait(LONG)
        games = (Episode(1.0, 100, 400, 0, 0),)
        Evaluation("nature", {}, run.env, run.label, "model", "dqn_custom", 1, 400, 0, games).save(
            run.experiment / "evaluation_nature.json", "breakout"
        )
        return True

    other = Starts()
    with ThreadPoolExecutor(2) as sweeps:
        first = sweeps.submit(train_and_play, plan, run, "cpu", train_and_evaluate)
        try:
            assert has_begun.wait(LONG)
            with pytest.raises(ValueError, match=r"seed_1' is being trained by another process \(process \d+ on "):
                train_and_play(plan, run, "cpu", other)
            second = sweeps.submit(train_and_play, plan, run, "cpu", other)
        finally:
            may_end.set()
        assert first.result(LONG)
        assert second.result(LONG)
    assert other.commands == []


def number_in(file: Path) -> int:
    """A process's number, 0 before it is written."""
    return int(file.read_text() or 0) if file.exists() else 0


def test_a_process_ends_with_whoever_started_it(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent has ended")
    code = (
        "import sys; from pathlib import Path; from sb3_atari_dqn.zoo.trainings import Processes\n"
        "Processes().run(['tests.zoo.sleeper', sys.argv[1]], Path(sys.argv[1] + '.txt'), {})"
    )
    pid_file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", code, str(pid_file)])
    pid = wait_for(lambda: number_in(pid_file))
    os.kill(pid, 0)
    parent.kill()
    parent.wait(LONG)
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a process to some cores")
def test_each_process_has_its_own_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 0, 2, 3, 5})
    assert shares_of_cores(1) == [[0, 2, 3, 5, 7]]
    assert shares_of_cores(2) == [[0, 2, 3], [5, 7]]
    assert shares_of_cores(6) == [[0], [2], [3], [5], [7], [0]]
    monkeypatch.undo()

    core = shares_of_cores(100)[-1]
    processes = Processes()
    command = ["tests.zoo.sleeper", str(tmp_path / "pid")]
    started = threading.Thread(target=processes.run, args=(command, tmp_path / "log", {}, core))
    started.start()
    pid = wait_for(lambda: number_in(tmp_path / "pid"))
    assert os.sched_getaffinity(pid) == set(core)
    processes.terminate()
    started.join(LONG)


def test_after_the_end_nothing_is_started(tmp_path: Path) -> None:
    processes = Processes()
    started = threading.Thread(target=processes.run, args=(["tests.zoo.sleeper", str(tmp_path / "pid")], tmp_path / "log", {}))
    started.start()
    wait_for(lambda: number_in(tmp_path / "pid"))
    processes.terminate()
    started.join(LONG)
    assert not started.is_alive()
    assert not processes.run(["platform"], tmp_path / "log", {})


def test_an_interrupted_sweep_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    """Two games, ended by a signal while they train."""
    content = {**SEVERAL, "variants": {"plain": {}}, "n_timesteps": 1_000_000}
    command = [
        sys.executable,
        "-m",
        "sb3_atari_dqn",
        "sweep",
        write(tmp_path / "long.yml", content),
        "-f",
        "runs",
        "--jobs",
        "2",
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # who runs the tests in the background ignores it
    )
    plan = read_plan(str(tmp_path / "long.yml"))
    runs = list(runs_of(plan, tmp_path / "runs"))
    try:
        wait_for(lambda: process.poll() is not None or all(list(run.experiment.glob("*.monitor.csv")) for run in runs))
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=LONG)[0]
    finally:
        process.kill()
    assert all(list(run.experiment.glob("*.monitor.csv")) for run in runs), printed
    assert process.returncode != 0
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(tmp_path).encode() not in entry.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
    assert not any((run.experiment / f"{run.env}.zip").exists() and next_command(plan, run, "cpu") is None for run in runs)
    assert check_folder(plan, tmp_path / "runs")["n_timesteps"] == 1_000_000
    assert yaml.safe_load((tmp_path / "runs" / "plan.json").read_text())["env"] is None


def test_other_machines_may_write_the_plan_too(tmp_path: Path) -> None:
    plan = read_small(tmp_path)
    content = check_folder(plan, tmp_path / "runs")
    threads = [threading.Thread(target=write_plan, args=(content, tmp_path / "runs")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["plan.json"]
    assert check_folder(plan, tmp_path / "runs") == content


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"env": "PongNoFrameskip-v4"}, [], "has both env and envs"),
        ({"envs": []}, [], r"envs=\[\] must be a list of games"),
        ({"envs": "PongNoFrameskip-v4"}, [], "envs='PongNoFrameskip-v4' must be a list of games"),
        ({"envs": ["PongNoFrameskip-v4"] * 2}, [], "game PongNoFrameskip-v4 is given twice"),
        ({"envs": [*GAMES, "PongNoFrameskip-v9"]}, [], "env='PongNoFrameskip-v9' is not known"),
        ({"variants": {"a": {"conf_file": "pong"}}}, [], "has no section for 'BreakoutNoFrameskip-v4'"),
        ({}, ["--gpus", "0.5"], "--gpus 0.5 has no effect without --ray"),
        ({}, ["--ray", "a:1", "--jobs", "2"], "--jobs 2 has no effect with --ray"),
        ({}, ["--ray", "a:1", "--cpus", "0"], "--cpus 0 must be at least 0.01"),
        ({}, ["--ray", "a:1", "--cpus", "1.5"], "--cpus 1.5 must be a whole number"),
    ],
)
def test_bad_input(
    changes: dict[str, Any], arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "bad.yml", {**SEVERAL, **changes})
    with pytest.raises(SystemExit):
        sweep([file, "-f", str(tmp_path / "runs"), *arguments])
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "runs").exists()


def test_an_ablation_is_of_one_game(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "several.yml", SEVERAL)
    with pytest.raises(SystemExit):
        ablation([file, "-f", str(tmp_path / "runs")])
    assert "is a list for several games" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "--ray 'nonsense' must be host:port, as `ray start --head` prints it"),
        ("auto", "--ray 'auto' must be host:port"),
        ("ray://host:10001", "--ray 'ray://host:10001' must be host:port"),
        ("host:99999", "--ray 'host:99999' must be host:port"),
        ("127.0.0.1:{closed}", "--ray 127.0.0.1:{closed}: no cluster of Ray answers there: .*refused"),
        ("127.0.0.1:{web}", "--ray 127.0.0.1:{web}: no cluster of Ray answers there: something listens"),
        ("no.such.host.invalid:6379", "--ray no.such.host.invalid:6379: no cluster of Ray answers there"),
    ],
)
def test_addresses_where_there_is_no_ray(
    address: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'sb3-atari-dqn[ray]'")
    with (
        socket.socket() as unused,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as web,
    ):
        unused.bind(("127.0.0.1", 0))  # and does not listen
        threading.Thread(target=web.serve_forever, daemon=True).start()
        ports = {"closed": unused.getsockname()[1], "web": web.server_port}
        file = write(tmp_path / "small.yml", SEVERAL)
        with pytest.raises(SystemExit):
            sweep([file, "-f", str(tmp_path / "runs"), "--ray", address.format(**ports)])
        web.shutdown()
    assert re.search(message.format(**ports), " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "runs").exists()


def test_says_how_to_install_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find_spec(name, *rest))
    with pytest.raises(SystemExit):
        sweep([write(tmp_path / "small.yml", SEVERAL), "-f", str(tmp_path / "runs"), "--ray", "127.0.0.1:6379"])
    assert "pip install 'sb3-atari-dqn[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
