"""What a run costs: weights that learn, floating-point operations, memory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from litegpt.model_folder import LiteGPT
from training.batches import Teaching, make_batch
from training.complete_file import complete_file
from training.learner import Learner
from training.lessons import Lessons
from training.optimisers import choose_trained
from training.recipe import Recipe

_CLEAR: Final = Path("/proc/self/clear_refs")
_STATUS: Final = Path("/proc/self/status")
_FORGET_THE_PEAK: Final = "5"
"""See proc_pid_clear_refs(5)."""


def trained_parameters(loaded: LiteGPT, recipe: Recipe) -> int:
    """How many weights of the model the recipe teaches."""
    choose_trained(recipe, loaded.model)
    return sum(parameter.numel() for parameter in loaded.model.parameters() if parameter.requires_grad)


def flops_per_image(loaded: LiteGPT, recipe: Recipe, lessons: Lessons, images: int = 4) -> float:
    """Floating-point operations of learning from one image, forwards and backwards, as PyTorch counts them.

    A multiplication and an addition count as two. Only products of matrices and attention are counted.

    Args:
        loaded: The model; its gradients are cleared.
        recipe: What is learnt.
        lessons: From what; the first ``images`` of them.
        images: How many to take the mean of.
    """
    choose_trained(recipe, loaded.model)
    learner = Learner(loaded, recipe)
    batch = make_batch([lessons[index] for index in range(images)], Teaching.of(loaded, recipe))
    batch = batch.to(next(loaded.model.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        learner.weighted(learner(batch, 0)).backward()  # type: ignore[no-untyped-call]
    learner.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) / images


def forget_peak_memory() -> None:
    """Begins to look for the highest anew."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif _CLEAR.exists():
        _CLEAR.write_text(_FORGET_THE_PEAK, encoding="ascii")


def peak_memory_bytes() -> int | None:
    """The most memory used since: PyTorch's of the GPU, or all of the process; None where nobody tells."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    if not _STATUS.exists():
        return None
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def highest_ever(file: Path, now: int | None) -> int | None:
    """The highest number that a file was ever told, ``now`` included; a run may have several sittings."""
    before = int(file.read_text(encoding="ascii")) if file.is_file() else None
    highest = max((value for value in (before, now) if value is not None), default=None)
    if highest is not None and highest != before:
        with complete_file(file) as unfinished:
            unfinished.write_text(str(highest), encoding="ascii")
    return highest
