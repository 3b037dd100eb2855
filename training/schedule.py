"""The learning rate over a run."""

from __future__ import annotations

import math

from training.recipe import Optimiser


def learning_rate(optimiser: Optimiser, step: int, steps: int) -> float:
    """The rate of one step: a straight warm-up, then a cosine.

    The cosine is counted from step 0 and not from the warm-up's end, as in the published schedule
    (``LinearWarmupCosineLRScheduler`` of LAVIS, counted in steps), so it begins slightly below the peak.

    Args:
        optimiser: The recipe's.
        step: From 0.
        steps: Of the whole run.
    """
    if step < optimiser.warm_up_steps:
        return (
            optimiser.warm_up_from
            + (optimiser.peak - optimiser.warm_up_from) * step / optimiser.warm_up_steps
        )
    fallen = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return optimiser.end + (optimiser.peak - optimiser.end) * fallen
