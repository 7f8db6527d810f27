"""Faults, tried and counted: ``make soak``.

Trains small runs, kills them at random moments and resumes them, breaks their files, lets their disk fill up, and stops them
while they save; and prints how many were tried, survived and lost. A run has survived if it ends with the same weights,
optimizer, memory and logs, bit for bit, as one that nothing happened to; a broken file, if it is named and nothing older is
lost.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sb3_atari_dqn.checkpoints.store import FOLDER, CheckpointStore
from tests.checkpoints.runs import RUNS, Command, contents, differences, n_checkpoints, resume, run_folder, start

#: what is said on a full disk
NO_CHECKPOINT = "No checkpoint could be written"


class Result(NamedTuple):
    """
    :param fault: what was done
    :param tried: how often
    :param survived: how often it did no harm
    """

    fault: str
    tried: int
    survived: int


class Soak:
    """
    Small runs, and what is done to them.

    :param folder: where they are
    :param n_timesteps: agent steps of each
    :param seed: of what is random here
    """

    def __init__(self, folder: Path, n_timesteps: int, seed: int) -> None:
        self.folder = folder
        self.n_timesteps = n_timesteps
        self.rng = random.Random(seed)
        self._whole: dict[str, dict[str, Any]] = {}
        self._n_runs = 0

    def whole(self, name: str) -> dict[str, Any]:
        """
        :param name: a kind of run
        :return: what one ends with that nothing happened to
        """
        if name not in self._whole:
            folder = self.folder / f"whole-{name}"
            start(folder, name, self.n_timesteps).wait()
            self._whole[name] = contents(run_folder(folder, name))
        return self._whole[name]

    def new_folder(self) -> Path:
        """
        :return: a folder for a run
        """
        self._n_runs += 1
        return self.folder / f"run-{self._n_runs}"

    def wait_a_while(self, command: Command, run: Path, longest: float) -> None:
        """
        Wait for a random time after a run has begun to train.

        :param command: that trains it
        :param run: its folder
        :param longest: seconds
        """
        seen = n_checkpoints(run)
        command.wait_for(lambda: n_checkpoints(run) > seen or "goes on at step" in command.output)
        end = time.monotonic() + self.rng.uniform(0, longest)
        command.wait_for(lambda: time.monotonic() > end)

    def kill(self, name: str, n_times: int) -> Result:
        """
        Kill runs at random moments, resume them each time, and compare the end.

        :param name: a kind of run
        :param n_times: how often in all
        :return: what came of it; a kill has survived if the run that it happened to ends as it should
        """
        expected, left, survived = self.whole(name), n_times, 0
        while left:
            folder = self.new_folder()
            run, of_this_run = run_folder(folder, name), 0
            command = start(folder, name, self.n_timesteps)
            while left:
                self.wait_a_while(command, run, 2.5)
                if command.is_over:
                    break
                command.kill()
                of_this_run, left = of_this_run + 1, left - 1
                command = resume(run)
            command.wait()
            different = differences(expected, contents(run))
            survived += 0 if different else of_this_run
            print(f"{name}: {of_this_run} kills, {len(different)} differences {different[:3]}", flush=True)
            shutil.rmtree(folder)
        return Result(f"{name}: killed at a random moment", n_times, survived)

    def break_files(self, name: str, n_times: int, how: str, harm: Callable[[Path], None]) -> Result:
        """
        Break a random file of the newest checkpoint.

        :param name: a kind of run
        :param n_times: how often
        :param how: what is done, in words
        :param harm: does it
        :return: what came of it; it has survived if the file was named and the checkpoint before it is as it was
        """
        folder = self.new_folder()
        start(folder, name, self.n_timesteps).wait()
        store = CheckpointStore(run_folder(folder, name) / FOLDER)
        checkpoints = [store.read_manifest(path) for path in store.manifests()]
        newest, before = checkpoints[:2]
        shared = {segment["name"] for segment in before.segments}
        own = [newest.path.name, *newest.files, *(s["name"] for s in newest.segments if s["name"] not in shared)]
        survived = 0
        print(f"{how}: {len(own)} files", flush=True)
        for _ in range(n_times):
            path = store.folder / self.rng.choice(own)
            content = path.read_bytes()
            harm(path)
            found, complaints = store.find_good()
            is_named = any(path.name in complaint for complaint in complaints) or (path == newest.path and not path.exists())
            survived += is_named and found.path == before.path and store.read_state(found) is not None
            path.write_bytes(content)
        shutil.rmtree(folder)
        return Result(how, n_times, survived)

    def flip(self, path: Path) -> None:
        """
        :param path: a file, of which one bit is changed
        """
        content = bytearray(path.read_bytes())
        content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
        path.write_bytes(content)

    def truncate(self, path: Path) -> None:
        """
        :param path: a file, of which the end is cut off
        """
        os.truncate(path, self.rng.randrange(path.stat().st_size))

    def stop_while_saving(self, name: str, n_times: int) -> Result:
        """
        Send SIGTERM while a checkpoint is being written, which is where most of the time goes here.

        :param name: a kind of run
        :param n_times: how often
        :return: what came of it
        """
        expected, survived = self.whole(name), 0
        folder = self.new_folder()
        run = run_folder(folder, name)
        command, n_sent = start(folder, name, self.n_timesteps, checkpoint_freq=4), 0
        while n_sent < n_times:
            self.wait_a_while(command, run, 0.5)
            command.wait_for(lambda: any((run / FOLDER).glob("*.tmp")))
            if command.is_over:
                break
            command.signal(signal.SIGTERM)
            command.join()
            n_sent += 1
            checkpoint, complaints = CheckpointStore(run / FOLDER).find_good()
            survived += command.process.exitcode == 128 + signal.SIGTERM and checkpoint.is_exact and not complaints
            command = resume(run)
        command.wait()
        different = differences(expected, contents(run))
        print(f"{name}: {n_sent} SIGTERM, {len(different)} differences {different[:3]}", flush=True)
        return Result(f"{name}: SIGTERM during a save", n_sent, 0 if different else survived)

    def fill_disk(self, name: str, n_times: int) -> Result:
        """
        Let a small disk be full for a while. A run that ends meanwhile is resumed when there is room again.

        :param name: a kind of run
        :param n_times: how often
        :return: what came of it; it has survived if training went on, the last good checkpoint stayed, and a new one came when
            there was room again
        """
        expected, survived, tried = self.whole(name), 0, 0
        with _small_disk(self.folder / "disk") as disk:
            if disk is None:
                print("a small disk needs the right to mount one: not tried")
                return Result("a disk that is full for a while", 0, 0)
            folder = disk / "logs"
            run = run_folder(folder, name)
            command = start(folder, name, self.n_timesteps)
            for _ in range(n_times):
                self.wait_a_while(command, run, 1.0)
                if command.is_over:
                    break
                tried += 1
                ballast = disk / "ballast"
                n_said = command.output.count(NO_CHECKPOINT)
                _fill(ballast)
                n_before = n_checkpoints(run)
                _wait_for_complaint(command, n_said)
                store = CheckpointStore(run / FOLDER)
                is_kept = store.find_good()[1] == []
                ballast.unlink()
                _wait_for_checkpoint(command, run, n_before)
                if n_checkpoints(run) == n_before:
                    command.wait()
                    command = resume(run)
                    _wait_for_checkpoint(command, run, n_before)
                survived += is_kept and n_checkpoints(run) > n_before
            command.wait()
            different = differences(expected, contents(run))
            print(f"{name}: {tried} times full, {len(different)} differences {different[:3]}", flush=True)
        return Result(f"{name}: a disk that is full for a while", tried, 0 if different else survived)


@contextlib.contextmanager
def _small_disk(folder: Path, megabytes: int = 60) -> Iterator[Path | None]:
    """
    :param folder: where it is mounted
    :param megabytes: of it
    :return: the folder; None without the right to mount
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _wait_for_complaint(command: Command, n_said: int) -> None:
    """
    :param command: trains on a full disk
    :param n_said: how often it has said so; this waits for more, or the end
    """
    command.wait_for(lambda: command.output.count(NO_CHECKPOINT) > n_said)


def _wait_for_checkpoint(command: Command, run: Path, n_before: int) -> None:
    """
    :param command: trains
    :param run: its folder
    :param n_before: how many checkpoints there were; this waits for more, or the end
    """
    command.wait_for(lambda: n_checkpoints(run) > n_before)


def _fill(ballast: Path) -> None:
    """
    :param ballast: file to write, which leaves a megabyte of its disk for logs, while somebody else writes there too
    """
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while shutil.disk_usage(ballast.parent).free > 2**20:
            file.write(bytes(2**18))


def main() -> None:
    """Do it all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="in all (default: %(default)s)")
    parser.add_argument("--broken", type=int, default=100, help="files of each kind of harm (default: %(default)s)")
    parser.add_argument("--stops", type=int, default=10, help="SIGTERM during a save (default: %(default)s)")
    parser.add_argument("--full", type=int, default=3, help="times that the disk is full (default: %(default)s)")
    parser.add_argument("--n-timesteps", type=int, default=800, help="agent steps of each run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    results = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), args.n_timesteps, args.seed)
        harms: dict[str, Callable[[Path], None]] = {
            "one bit of a file flipped": soak.flip,
            "a file cut short": soak.truncate,
            "a file missing": Path.unlink,
        }
        for how, harm in harms.items():
            results.append(soak.break_files("uniform", args.broken, how, harm))
        results.append(soak.fill_disk("uniform", args.full))
        results.append(soak.stop_while_saving("uniform", args.stops))
        for index, name in enumerate(RUNS):
            n_kills = args.kills // len(RUNS) + (index < args.kills % len(RUNS))
            results.append(soak.kill(name, n_kills))
    print(f"\n{'fault':45} {'tried':>6} {'survived':>9} {'lost':>5}")
    for result in results:
        print(f"{result.fault:45} {result.tried:6} {result.survived:9} {result.tried - result.survived:5}")
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    if any(result.survived < result.tried for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
