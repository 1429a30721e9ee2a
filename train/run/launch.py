"""Processes of a distributed run, by the environment that torchrun, srun, Lightning or a job script sets."""

import os

from inference.common.errors import UserError

_TORCHRUN, _SRUN = "TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"


def is_first_process() -> bool:
    """Return True in the process of rank 0.

    Lightning says the same, but takes seconds to import.
    """
    if _TORCHRUN in os.environ:
        return os.environ.get("RANK", "0") == "0"
    if _SRUN in os.environ and os.environ.get("SLURM_JOB_NAME") not in {"bash", "interactive"}:
        return os.environ.get("SLURM_PROCID", "0") == "0"
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return node == "0" and os.environ.get("LOCAL_RANK", "0") == "0"


def check_launched(world: int) -> None:
    """Check that the processes that a launcher has started are those of the config.

    With one device in the config, each of them would train a run of its own.

    Args:
        world: Number of devices that the config asks for, over all nodes.

    Raises:
        UserError: The launcher has started another number.
    """
    launchers = {"torchrun": (_TORCHRUN, "WORLD_SIZE"), "srun": (_SRUN, "SLURM_STEP_NUM_TASKS")}
    for launcher, (mark, variable) in launchers.items():
        number = os.environ.get(variable, "")
        if mark in os.environ and number.isdecimal():
            if int(number) != world and int(number) > 1:
                raise UserError(
                    f"trainer.devices and trainer.num_nodes: ask for {world} process{'' if world == 1 else 'es'}, but "
                    f"{launcher} has started {number} ({variable}) (set num_nodes to the number of machines, and "
                    "devices to the number of processes on each)"
                )
            return
