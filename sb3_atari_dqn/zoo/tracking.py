"""Runs that RL Zoo's ``train --track`` shows at Weights & Biases (https://wandb.ai): resumed, they continue there."""

import sys
from collections.abc import Mapping
from typing import Any

#: argument of a run in ``args.yml``: its id at Weights & Biases
RUN_ID = "wandb_run_id"


def tracked_run(args: Mapping[str, Any]) -> dict[str, str]:
    """
    :param args: of RL Zoo's ``train``, which has called ``wandb.init`` by now
    :return: the id of the run there, to be noted beside the arguments; nothing without ``--track``
    """
    run = getattr(sys.modules.get("wandb"), "run", None)
    return {RUN_ID: run.id} if args.get("track") and run is not None else {}


def check_tracking(args: Mapping[str, Any], track: bool) -> str | None:
    """
    See whether a run can continue at Weights & Biases.

    :param args: of the run
    :param track: whether the user wants that
    :return: what to tell the user, if there is something
    :raises ValueError: if the user wants it and it is not possible, saying why
    """
    if not track:
        return (
            "this run was tracked at Weights & Biases, where it does not continue: resume --track"
            if args.get("track")
            else None
        )
    if not args.get("track"):
        raise ValueError("--track: this run was not started with --track, so there is no run of it at Weights & Biases")
    if not isinstance(args.get(RUN_ID), str):
        raise ValueError(
            f"--track: args.yml has no {RUN_ID}, which runs have that were started with this version or a later one"
        )
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise ValueError(f"--track needs Weights & Biases ({error}): pip install wandb") from None
    return None


def continue_tracking(args: Mapping[str, Any]) -> None:
    """
    Continue a run at Weights & Biases. TensorBoard's writers have to be made after this.

    :param args: of the run
    """
    import wandb

    wandb.init(
        id=args[RUN_ID],
        resume="allow",
        project=args.get("wandb_project_name"),
        entity=args.get("wandb_entity"),
        sync_tensorboard=True,  # what RL Zoo begins it with
        monitor_gym=True,
    )
