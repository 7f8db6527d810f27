"""What a GPU is wanted for, in one go: its tests, the benchmark, and learning runs with curves and scores.

python docs/gpu_results.py results          # on a machine with a GPU: tests, benchmark, 10 million steps each of five games
                                            # with DQN and Rainbow, and ablations, which take up where they stopped
python docs/gpu_results.py results --quick  # anywhere, in minutes: the same commands at small size

Each part leaves its figures in the folder and can be run by itself (--part).
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch as th
import yaml

from sb3_atari_dqn.zoo.presets import ablations

#: lists of variants, and the games to try them on if not those of the list
SWEEPS = {
    "games": [],
    "ladder": ["BreakoutNoFrameskip-v4", "SpaceInvadersNoFrameskip-v4"],
    "rainbow": ["BreakoutNoFrameskip-v4"],
}
PARTS = ("tests", "bench", *SWEEPS)

#: what is different in each variant at small size
SMALL = {"n_envs": 2, "buffer_size": 2000, "learning_starts": 300}


def run(log: Path, *command: str) -> None:
    """
    :param log: file for what the command prints
    :param command: to run; its output is shown as well
    """
    print("$", *command, flush=True)
    start = time.perf_counter()
    with log.open("a") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            file.write(line)
        code = process.wait()
        file.write(f"{' '.join(command)}: {time.perf_counter() - start:.0f} seconds, exit {code}\n")
    if code:
        sys.exit(code)


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where figures go")
    parser.add_argument("--part", choices=PARTS, action="append", help="this one only; can be given more than once")
    parser.add_argument("--steps", type=int, default=10_000_000, help="agent steps of each run (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="at small size, on whatever device there is")
    args = parser.parse_args()
    if not args.quick and not th.cuda.is_available():
        parser.error("there is no GPU that PyTorch can use; --quick runs the same commands at small size")
    args.folder.mkdir(parents=True, exist_ok=True)
    for part in args.part or PARTS:
        log = args.folder / f"{part}.txt"
        if part == "tests":
            run(log, sys.executable, "-m", "pytest", "-q", "-rs", "tests/learning", "tests/replay")
        elif part == "bench":
            size = ["--rounds", "1", "--steps", "64"] if args.quick else ["--steps", "20000"]
            figures = ["--only", "learning", "--only", "environments", "--json", str(args.folder / "bench.json")]
            preset = "dqn_custom" if args.quick else "gpu"  # whose 128 environments take half a minute to start
            run(log, sys.executable, "-m", "sb3_atari_dqn", "bench", "--conf-file", preset, *figures, *size)
        else:
            folder = args.folder / part
            run(log, sys.executable, "-m", "sb3_atari_dqn", "sweep", *sweep(part, folder, args.steps, args.quick))


def sweep(name: str, folder: Path, n_steps: int, quick: bool) -> list[str]:
    """
    :param name: of ``SWEEPS``
    :param folder: where runs, table and picture go
    :param n_steps: agent steps of each run
    :param quick: one seed of one game, with few environments and a small replay memory
    :return: arguments of ``python -m sb3_atari_dqn sweep``
    """
    games = ["--envs", *SWEEPS[name]] if SWEEPS[name] else []
    if not quick:
        return [name, "-f", str(folder), "-n", str(n_steps), *games]
    content = yaml.safe_load(ablations()[name].read_text())
    for variant in content["variants"].values():
        variant["params"] = {**variant.get("params", {}), **SMALL}
    small = folder.with_suffix(".yml")
    small.write_text(yaml.safe_dump(content, sort_keys=False))
    return [str(small), "-f", str(folder), "-n", "700", "--envs", "BreakoutNoFrameskip-v4", "--seeds", "1", "--episodes", "1"]


if __name__ == "__main__":
    main()
