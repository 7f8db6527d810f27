"""``python -m sb3_atari_dqn <command>``: RL Zoo's commands with our algorithms registered, and our own."""

import argparse
import importlib.util
import pkgutil
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from sb3_atari_dqn.atomic_files import is_of_files, what_failed
from sb3_atari_dqn.zoo.register import register
from sb3_atari_dqn.zoo.studies import open_study

#: RL Zoo's scripts
ZOO_COMMANDS = ("train", "enjoy", "record_video", "record_training", "load_from_hub")

#: our own: the function of each, in a module of this room; only what is asked for is imported
COMMANDS = {
    "resume": "resume:resume",
    "evaluate": "evaluate:evaluate",
    "export": "export:export",
    "compare": "compare:compare",
    "ablation": "sweep:ablation",
    "sweep": "sweep:sweep",
    "plot": "plot:plot",
    "report": "report:report",
    "bench": "bench:bench",
    "presets": "presets:list_presets",
}

_USAGE = f"""usage: python -m sb3_atari_dqn <command> [arguments]

commands of RL Zoo, with dqn_custom and dqn_sweep among its algorithms; all their arguments are handed on:
  {", ".join(ZOO_COMMANDS)}
    train --best-trial    train with the best trial of --storage and --study-name

commands of this package:
  resume                  go on with a training run where its last checkpoint stands
  evaluate                play whole games with a trained model and print the scores
  export                  write a trained model as ONNX or safetensors, without code in it
  compare                 compare runs over seeds and games
  ablation                train presets with several seeds, play, and compare
  sweep                   the same on several games, on this machine or on a cluster of Ray
  plot                    draw the scores of training runs
  report                  write one HTML page of a training run: curves, scores, a recorded game, the network
  bench                   measure speed and memory on this machine, beside Stable-Baselines3's
  presets                 list the configurations that --conf-file takes by name

Add --help behind a command for its arguments."""

_SHADOWED = (
    "note: {origin} hides the module of the same name through which RL Zoo finds our algorithms. This command works; "
    "for `python -m rl_zoo3.train --algo dqn_custom`, add to that file: from sb3_atari_dqn.zoo import register; register()"
)


def main() -> None:
    """Run the command that the command line names."""
    command, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if command in ("-h", "--help"):
        print(_USAGE)
    elif command in COMMANDS:
        register()
        run: Callable[[list[str]], None] = pkgutil.resolve_name(f"{__package__}.{COMMANDS[command]}")
        try:
            run(arguments)
        except OSError as error:
            if not is_of_files(error):
                raise
            sys.exit(f"python -m sb3_atari_dqn {command}: error: {what_failed(error)}")
    elif command in ZOO_COMMANDS:
        register()
        _warn_if_shadowed()
        _run_in_zoo(command, arguments)
    else:
        sys.exit(f"{command!r} is not a command; choose one of {', '.join((*ZOO_COMMANDS, *COMMANDS))}")


def _warn_if_shadowed() -> None:
    spec = importlib.util.find_spec("custom_envs")
    if spec is not None and spec.origin and "sb3_atari_dqn" not in Path(spec.origin).read_text(encoding="utf-8"):
        print(_SHADOWED.format(origin=spec.origin), file=sys.stderr)


def _run_in_zoo(command: str, arguments: list[str]) -> None:
    if command == "train" and "--best-trial" in arguments:
        arguments = _best_trial_by_number(arguments)
    sys.argv = [f"rl_zoo3.{command}", *arguments]
    runpy.run_module(f"rl_zoo3.{command}", run_name="__main__", alter_sys=True)


def _best_trial_by_number(arguments: list[str]) -> list[str]:
    """
    :param arguments: with ``--best-trial``
    :return: the same with ``--trial-id`` and the number of the study's best trial
    """
    parser = argparse.ArgumentParser(prog="python -m sb3_atari_dqn train", allow_abbrev=False)
    parser.add_argument("--best-trial", action="store_true", required=True)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--study-name", required=True)
    study, others = parser.parse_known_args(arguments)
    try:
        opened = open_study(study.storage, study.study_name)
    except ValueError as error:
        parser.error(str(error))
    try:
        best = opened.best_trial
    except ValueError:
        parser.error(f"no trial of study {study.study_name!r} was completed, so none is the best")
    print(f"RL Zoo cannot load the best trial of a study by itself; it is trial {best.number}, with value {best.value}")
    return [*others, "--storage", study.storage, "--study-name", study.study_name, "--trial-id", str(best.number)]
