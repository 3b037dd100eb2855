"""The figures of one run: of the model, of guessing, and in what forms they are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from litegpt.vocabulary import LABELS
from training.errors import TrainingError
from training.evaluation.bootstrap import Estimate
from training.evaluation.bootstrap import Path as ValuePath
from training.evaluation.journal import Examined, Run
from training.evaluation.measures import Measures, evaluate
from training.evaluation.scorecard import Sheet, sheets, to_json, to_markdown
from training.evaluation.statements import repeating

JSON_NAME: Final = "measures.json"
MARKDOWN_NAME: Final = "measures.md"


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

    @classmethod
    def read(cls, folder: Path, run: Run) -> MeasuredRun:
        """The figures of a run as ``write`` left them.

        Raises:
            TrainingError: If ``measures.json`` is not there, or not what ``write`` writes.
        """
        file = folder / JSON_NAME
        try:
            figures = json.loads(file.read_text(encoding="utf-8"))
            return cls(run, _measures(figures["scores"]), _measures(figures["guessing"]))
        except OSError as error:
            raise TrainingError(f"{file} cannot be read: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(f"{file} does not hold the figures of an evaluation: {error}") from None

    def sheets(self) -> list[Sheet]:
        """The tables."""
        return sheets(self.measured, self.guessed)

    def to_json(self) -> str:
        """All figures."""
        return to_json(self.measured, self.guessed, asdict(self.run))

    def to_markdown(self) -> str:
        """The tables under a heading that says what they are of."""
        warning = [self.run.warning] if self.run.warning else []
        return "\n\n".join([f"## {self.run.title}", *warning, to_markdown(self.sheets())])

    def write(self, folder: Path) -> None:
        """Writes ``measures.json`` and ``measures.md``."""
        (folder / JSON_NAME).write_text(self.to_json() + "\n", encoding="utf-8")
        (folder / MARKDOWN_NAME).write_text(self.to_markdown() + "\n", encoding="utf-8")


def judged_labels(examined: Sequence[Examined]) -> list[str]:
    """The labels that were looked for on at least one image, in the vocabulary's order."""
    judged = frozenset().union(*(one.case.judged for one in examined))
    return [label for label in LABELS if label in judged]


def _measures(tree: Mapping[str, Any]) -> Measures:
    """From ``scorecard.to_json``: every object with a ``value`` is an estimate, at the path of its keys."""
    counts = {name: tree[name] for name in ("images", "failed", "support", "judged", "not_computed")}
    figures = {name: branch for name, branch in tree.items() if name not in counts}
    return Measures(**counts, estimates=dict(_estimates(figures, ())))


def _estimates(tree: Mapping[str, Any], path: ValuePath) -> Iterator[tuple[ValuePath, Estimate]]:
    for name, branch in tree.items():
        if "value" in branch:
            yield (*path, name), Estimate(**branch)
        else:
            yield from _estimates(branch, (*path, name))
