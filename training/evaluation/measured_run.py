"""The figures of one run: of the model, of guessing, and in what forms they are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from litegpt.vocabulary import LABELS
from training.evaluation.journal import Examined, Run
from training.evaluation.measures import Measures, evaluate
from training.evaluation.scorecard import Sheet, sheets, to_json, to_markdown
from training.evaluation.statements import repeating

JSON_NAME: Final = "measures.json"
MARKDOWN_NAME: Final = "measures.md"

DEMONSTRATION: Final = (
    "PHANTOM: a demonstration model, trained on synthetic images. Nothing here says anything about patients."
)


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """What was measured of a run, and what guessing gives on the same images."""

    run: Run
    measured: Measures
    guessed: Measures

    @classmethod
    def of(
        cls,
        run: Run,
        examined: Sequence[Examined],
        *,
        resamples: int = 0,
        seed: int = 0,
        track: Callable[[Iterable[int]], Iterable[int]] = iter,
    ) -> MeasuredRun:
        """Measures a run (see ``measures.evaluate``); guessing says of each image what is true of the next.

        Args:
            run: Which.
            examined: Its readings; ranks and guesses depend on their order.
            resamples: Draws behind the intervals.
            seed: Of the draws.
            track: Wraps the run over the draws.

        Raises:
            TrainingError: If there is no image.
        """
        cases = [one.case for one in examined]
        readings = [one.reading for one in examined]
        guesses = [repeating(case.truth) for case in [*cases[1:], *cases[:1]]]
        labels = judged_labels(examined)
        measured = evaluate(cases, readings, labels=labels, resamples=resamples, seed=seed, track=track)
        return cls(run, measured, evaluate(cases, guesses, labels=labels))

    def sheets(self) -> list[Sheet]:
        """The tables."""
        return sheets(self.measured, self.guessed)

    def to_json(self) -> str:
        """All figures."""
        return to_json(self.measured, self.guessed, asdict(self.run))

    def to_markdown(self) -> str:
        """The tables under a heading that says what they are of."""
        warning = [DEMONSTRATION] if self.run.model.demonstration else []
        return "\n\n".join([f"## {self.run.title}", *warning, to_markdown(self.sheets())])

    def write(self, folder: Path) -> None:
        """Writes ``measures.json`` and ``measures.md``."""
        (folder / JSON_NAME).write_text(self.to_json() + "\n", encoding="utf-8")
        (folder / MARKDOWN_NAME).write_text(self.to_markdown() + "\n", encoding="utf-8")


def judged_labels(examined: Sequence[Examined]) -> list[str]:
    """The labels that were looked for on at least one image, in the vocabulary's order."""
    judged = frozenset().union(*(one.case.judged for one in examined))
    return [label for label in LABELS if label in judged]
