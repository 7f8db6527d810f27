"""A sweep on a cluster of Ray: two nodes, one of which dies while it trains."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sb3_atari_dqn.checkpoints.store import FolderLock
from sb3_atari_dqn.zoo.plans import TRAINING_LOG, Plan, Run, is_trained, read_plan, runs_of, score
from tests.waiting import LONG, wait_for
from tests.zoo.test_ablation import write

PLAN: dict[str, Any] = {
    "envs": ["BreakoutNoFrameskip-v4", "PongNoFrameskip-v4"],
    "n_timesteps": 2000,
    "seeds": [1],
    "protocol": "nature",
    "episodes": 1,
    "params": {"n_envs": 2, "buffer_size": 1000, "learning_starts": 100, "update_period": 8, "checkpoint_freq": 200},
    "variants": {"plain": {}},
}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head that only keeps the books, on which nothing is trained."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'sb3-atari-dqn[ray]'")
    from ray.cluster_utils import Cluster

    settings = {
        "health_check_initial_delay_ms": 1000,  # a dead node is noticed after two seconds, not fifteen
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 4,
        "worker_niceness": 0,
    }
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": settings}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def begun(run: Run) -> bytes | None:
    """The first line of a run's log of games, which has the time at which it began; None before there is one."""
    logs = sorted(run.experiment.glob("*monitor.csv"))
    if not logs or not logs[0].stat().st_size:
        return None
    return logs[0].read_bytes().splitlines()[0]


def is_in_the_middle(plan: Plan, run: Run) -> bool:
    return run.has_checkpoint and not is_trained(plan, run)


def ancestors(process: int) -> Iterator[int]:
    """A process's number, that of who started it, and so on."""
    while process:
        yield process
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def node_of(run: Run, nodes: Sequence[Any]) -> Any:
    """The node on which a run is trained: the process that has the run's lock was started there."""
    process = int((run.experiment / FolderLock.NAME).read_text().split()[1])
    (found,) = (node for node in nodes if node.all_processes["raylet"][0].process.pid in ancestors(process))
    return found


def test_a_node_dies_and_its_run_goes_on_elsewhere(cluster: Any, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    file = write(tmp_path / "games.yml", PLAN)
    plan = read_plan(file)
    runs = list(runs_of(plan, tmp_path / "runs"))
    command = [sys.executable, "-m", "sb3_atari_dqn", "sweep", file, "-f", "runs", "--ray", cluster.address]
    with (tmp_path / "sweep.txt").open("wb") as log:
        sweep = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: sweep.poll() is not None or all(map(begun, runs)), (tmp_path / "sweep.txt").read_text)
        dies = wait_for(lambda: next((run for run in runs if is_in_the_middle(plan, run)), None))
        before = [begun(run) for run in runs]
        cluster.remove_node(node_of(dies, nodes), allow_graceful=False)
        assert sweep.wait(LONG) == 0, (tmp_path / "sweep.txt").read_text()
    finally:
        sweep.kill()
    assert all(score(plan, run) is not None for run in runs)
    assert (tmp_path / "runs" / "sweep.png").is_file()

    after = [begun(run) for run in runs]
    assert after == before  # none was started over
    for run in runs:
        assert ("goes on at step" in (run.folder / TRAINING_LOG).read_text()) == (run is dies)
    assert not any(run.has_checkpoint for run in runs), "they go when the games are played"
