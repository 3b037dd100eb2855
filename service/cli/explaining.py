"""``explain``: which rule did what with a study, and why the others did not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from service.cli.options import AsJSON, Config, DataDir, open_records, settings_of_process
from service.rules.explaining import Asked, ExplainedImage, Explanation, explain
from service.rules.facts import Facts
from service.rules.rule import ResultRule, StudyRule
from service.rules.rulebook import Rules

_Study = Annotated[
    str | None,
    typer.Argument(metavar="STUDY", help="Study Instance UID or its beginning, or accession number."),
]
_NAME_WIDTH: Final = 20


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command("explain")(explain_study)


def explain_study(
    study: _Study = None, config: Config = None, data_dir: DataDir = None, as_json: AsJSON = False
) -> None:
    """Tell which rule did what with a study, and why the others did not; without STUDY list the rules.

    Example: litegpt-node explain A-2024-1187
    """
    settings = settings_of_process(config, data_dir=data_dir)
    rules = Rules.read(settings)
    console = Console(highlight=False, soft_wrap=True)
    if study is None:
        if as_json:
            typer.echo(json.dumps(_as_json(rules), indent=2))
            return
        console.print(Text("\n".join(_listed(rules))))
        return
    records = open_records(settings)
    with records.reading() as session:
        explanation = explain(session, rules, study)
    records.close()
    if as_json:
        typer.echo(json.dumps(explanation.as_json(), indent=2))
        return
    for line in _lines(explanation, passed_on=bool(rules.image_destinations)):
        console.print(line)


def _as_json(rules: Rules) -> dict[str, list[dict[str, object]]]:
    return {
        "study_rules": [rule.model_dump(mode="json") for rule in rules.study],
        "result_rules": [rule.model_dump(mode="json") for rule in rules.result],
    }


def _listed(rules: Rules) -> Iterator[str]:
    yield "for studies, the first that holds"
    yield from (_rule(rule) for rule in rules.study)
    yield "for results, the first that holds"
    yield from (_rule(rule) for rule in rules.result)


def _rule(rule: StudyRule | ResultRule) -> str:
    return f"  {rule.name:<{_NAME_WIDTH}} {rule.decision}, if {rule.conditions or 'nothing before it holds'}"


def _lines(explanation: Explanation, passed_on: bool) -> Iterator[Text]:
    yield Text(f"study  {explanation.study_instance_uid}")
    for image in explanation.images:
        yield Text(f"image  {image.sop_instance_uid}  {_seen(image)}")
        if passed_on:
            to = ", ".join(image.forward_images_to) or "nobody"
            yield Text(f"       passed on to {to}, by {image.forward_rule}")
    yield from _asked("rules for studies, now", explanation.study_rules, "no image of it is to be read")
    yield from _asked("rules for results, now", explanation.result_rules, "nothing has been read yet")
    if explanation.analysis_id is None:
        yield Text("no analysis yet")
        return
    study_rule, result_rule = (name or "(none kept)" for name in explanation.went_by)
    went_by = f"went by {study_rule}, its results by {result_rule}"
    yield Text(f"analysis {explanation.analysis_id}, {explanation.analysis_state}: {went_by}")


def _asked(title: str, rules: Sequence[Asked], otherwise: str) -> Iterator[Text]:
    yield Text(title if rules else f"{title}: {otherwise}")
    for asked in rules:
        sign, style = ("✗", "dim") if asked.why_not else ("✓", "green")
        yield Text(f"  {sign} {asked.rule:<{_NAME_WIDTH}} {asked.why_not or asked.decision}", style=style)


def _seen(image: ExplainedImage) -> str:
    left_out = f"; not read: {image.reason}" if image.reason else ""
    return f"{_told(image.facts)}{left_out}"


def _told(facts: Facts) -> str:
    age = "" if facts.age_years is None else f"{facts.age_years:.0f} years"
    sent = f"from {facts.calling_ae_title}" if facts.calling_ae_title else "imported"
    called = f"to {facts.called_ae_title}" if facts.called_ae_title else ""
    station = f"station {facts.station_name}" if facts.station_name else ""
    texts = (sent, called, station, facts.modality, facts.body_part, *map(repr, facts.descriptions), age)
    return ", ".join(filter(None, texts))
