"""What a GPU is wanted for, in one go: its tests, the benchmark, and learning runs with curve and scores.

python docs/gpu_results.py results          # on a machine with a GPU: tests, benchmark, 10 million steps of two games,
                                            # ablations, which take up where they stopped
python docs/gpu_results.py results --quick  # anywhere, in a minute: the same commands at small size

Each part leaves its figures in the folder and can be run by itself (--part).
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch as th

#: game, preset, and what is different from it
RUNS = {
    "breakout": ("BreakoutNoFrameskip-v4", "gpu", []),
    "space-invaders": ("SpaceInvadersNoFrameskip-v4", "gpu", ["clip_rewards:False"]),  # Huber loss and raw rewards
}
#: lists of variants to compare, and their games
ABLATIONS = {
    "ladder-breakout": ("ladder", "BreakoutNoFrameskip-v4"),
    "ladder-space-invaders": ("ladder", "SpaceInvadersNoFrameskip-v4"),
    "rainbow-breakout": ("rainbow", "BreakoutNoFrameskip-v4"),
}
PARTS = ("tests", "bench", *RUNS, *ABLATIONS)


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
    parser.add_argument("--steps", type=int, default=10_000_000, help="agent steps of a learning run (default: %(default)s)")
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
            size = ["--rounds", "1", "--steps", "256"] if args.quick else ["--steps", "20000"]
            figures = ["--only", "learning", "--only", "environments", "--json", str(args.folder / "bench.json")]
            preset = "dqn_custom" if args.quick else "gpu"  # whose 128 environments take half a minute to start
            run(log, sys.executable, "-m", "sb3_atari_dqn", "bench", "--conf-file", preset, *figures, *size)
        elif part in ABLATIONS:
            name, env_id = ABLATIONS[part]
            size = ["-n", "700", "--seeds", "1", "--episodes", "1"] if args.quick else ["-n", str(args.steps)]
            run(
                log,
                sys.executable,
                "-m",
                "sb3_atari_dqn",
                "ablation",
                name,
                "--env",
                env_id,
                "-f",
                str(args.folder / part),
                *size,
            )
        else:
            learn(log, args.folder, part, 3000 if args.quick else args.steps, 1 if args.quick else 30, args.quick)


def learn(log: Path, folder: Path, name: str, n_steps: int, n_episodes: int, quick: bool) -> None:
    """
    :param log: file for what is printed
    :param folder: where figures go
    :param name: of ``RUNS``
    :param n_steps: agent steps
    :param n_episodes: whole games to play in the end
    :param quick: with few environments and a small replay memory
    """
    env_id, preset, params = RUNS[name]
    if quick:
        params = [*params, "n_envs:2", "buffer_size:2000", "learning_starts:1000"]
    logs = folder / "logs" / name
    shutil.rmtree(logs, ignore_errors=True)
    arguments = f"--algo dqn_custom --env {env_id} --conf-file {preset} -n {n_steps} --eval-freq -1 --seed 1 -f {logs}"
    changes = ["-params", *params] if params else []
    run(log, sys.executable, "-m", "rl_zoo3.train", *arguments.split(), *changes)
    experiment = str(logs / "dqn_custom" / f"{env_id}_1")
    run(log, sys.executable, "-m", "sb3_atari_dqn", "plot", experiment, "-o", str(folder / f"{name}.png"))
    run(log, sys.executable, "-m", "sb3_atari_dqn", "evaluate", experiment, "--episodes", str(n_episodes))


if __name__ == "__main__":
    main()
