"""The order in which a run sees its images: batches of answers of like length, another order each epoch.

An epoch's order follows from (seed, epoch) alone, so a run that stopped goes on at any step by asking for
that step's batch. An answer is padded to the longest of its batch; images are therefore sorted by length, but
only within windows of a shuffled epoch, so that batches stay random and epochs differ in them.

The random numbers are those of NumPy's ``default_rng``; another version of NumPy may give another order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError

WINDOW: Final = 50
"""Steps whose images are sorted together: more waste less padding, and leave less to chance.

An epoch of 30 steps or more wastes under a tenth on answers like the phantoms'; a shorter one is sorted in
two halves, too few to be that even.
"""


class BatchOrder:
    """Which images make up which batch, for one of ``world_size`` processes that step together.

    Unweighted, every image comes in every epoch. What is missing in the last batches is filled up with images
    drawn once more, others each epoch, so that all batches are full and all ranks have as many: fewer than
    ``batch_size × world_size`` images come twice (or more often, where there are fewer images than that).

    Weighted, an epoch is as long, but each place in it is drawn on its own, with replacement.

    Attributes:
        batches_per_epoch: Batches of each rank in an epoch.
    """

    def __init__(
        self,
        lengths: Sequence[int] | None,
        batch_size: int,
        seed: int,
        *,
        weights: Sequence[float] | None = None,
        images: int | None = None,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        """Args:
            lengths: Of each image's answer, in tokens; None leaves batches to chance.
            batch_size: Images of a batch of one rank.
            seed: From 0; the same for all ranks.
            weights: How often to draw each image, in proportion; None takes each once.
            images: How many there are; needed only where neither lengths nor weights tell.
            world_size: Processes that share an epoch.
            rank: Which of them this is, from 0.

        Raises:
            TrainingError: If there is nothing to order, or the numbers contradict each other.
        """
        told = {len(each) for each in (lengths, weights) if each is not None}
        told |= set() if images is None else {images}
        if len(told) != 1:
            numbers = " or ".join(map(str, sorted(told))) or "nobody knows how many"
            raise TrainingError(f"batches cannot be made of {numbers} images")
        self._images = told.pop()
        if self._images < 1 or batch_size < 1 or seed < 0:
            raise TrainingError(
                f"no batches of {batch_size} can be made of {self._images} images with seed {seed}"
            )
        if not 0 <= rank < world_size:
            raise TrainingError(f"rank {rank} is none of {world_size}")
        self._lengths = None if lengths is None else np.asarray(lengths, dtype=np.int64)  # (images,)
        self._chances = None if weights is None else _chances(weights)  # (images,)
        self._seed = seed
        self._together = batch_size * world_size
        self._world_size = world_size
        self._rank = rank
        self.batches_per_epoch = -(-self._images // self._together)
        self._last: tuple[int, list[list[int]]] | None = None

    def epoch(self, number: int) -> list[list[int]]:
        """This rank's batches of an epoch, from 0, as indices of images."""
        if self._last is None or self._last[0] != number:
            steps = self._steps(number)  # (batches, batch_size × world_size)
            self._last = number, steps[:, self._rank :: self._world_size].tolist()
        return self._last[1]

    def batch(self, step: int) -> list[int]:
        """This rank's batch at a step, counted from 0 over all epochs."""
        number, place = divmod(step, self.batches_per_epoch)
        return self.epoch(number)[place]

    def batches(self, step: int = 0) -> Iterator[list[int]]:
        """This rank's batches from a step on, without end."""
        while True:
            yield self.batch(step)
            step += 1

    def _steps(self, number: int) -> NDArray[np.int64]:
        """An epoch's images of all ranks, (batches, batch_size × world_size), like lengths in a row."""
        rng = np.random.default_rng((self._seed, number))
        order = self._drawn(rng)  # (batches × batch_size × world_size,)
        if self._lengths is None:
            return order.reshape(-1, self._together)
        # A window over the whole of a small dataset would make the same batches each epoch.
        window = self._together * max(1, min(WINDOW, self.batches_per_epoch // 2))
        parts = [order[start : start + window] for start in range(0, len(order), window)]  # (≤ window,) each
        ordered = [part[np.argsort(self._lengths[part], kind="stable")] for part in parts]
        steps = np.concatenate(ordered).reshape(-1, self._together)  # (batches, batch_size × world_size)
        return rng.permutation(steps, axis=0)  # (batches, batch_size × world_size)

    def _drawn(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """An epoch's images in random order, (batches × batch_size × world_size,)."""
        places = self.batches_per_epoch * self._together
        if self._chances is not None:
            return rng.choice(self._images, places, p=self._chances)
        rounds = [rng.permutation(self._images) for _ in range(-(-places // self._images))]  # (images,) each
        filled = np.concatenate(rounds)[:places]  # (places,)
        return rng.permutation(filled)


def padding_waste(batches: Sequence[Sequence[int]], lengths: Sequence[int]) -> float:
    """The share of tokens that are padding, 0..1, where each batch is as long as its longest answer."""
    useful = sum(lengths[image] for batch in batches for image in batch)
    padded = sum(len(batch) * max(lengths[image] for image in batch) for batch in batches)
    return 1 - useful / padded if padded else 0.0


def balanced_weights(label_sets: Sequence[Collection[str]]) -> list[float]:
    """Weights that draw images of rare labels more often: 1 / images that share the image's rarest label.

    Images without labels count as of one further label, so that many normal ones do not drown the rest.

    Args:
        label_sets: The labels of each image.

    Returns:
        One for each image; their mean is 1.
    """
    named = [labels or ("",) for labels in label_sets]
    counts = Counter(label for labels in named for label in set(labels))
    raw = [1 / min(counts[label] for label in labels) for labels in named]
    mean = sum(raw) / len(raw) if raw else 1.0
    return [weight / mean for weight in raw]


def _chances(weights: Sequence[float]) -> NDArray[np.float64]:
    values: NDArray[Any] = np.asarray(weights, dtype=np.float64)  # (images,)
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise TrainingError("the weights of images must be finite, none below 0, and not all 0")
    chances: NDArray[np.float64] = values / values.sum()  # (images,)
    return chances
