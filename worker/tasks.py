"""The two tasks. Each answers a bell: it works on what is due, and a second bell may find nothing to do.

What a task needs is made on first use, in the process that runs it: never in Celery's parent, where a
database connection or a GPU would not survive the fork.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

from celery import Task

from service import queue
from service.archive import Archive
from service.errors import TryAgain
from service.pulse import Pulse
from service.records.database import Records
from service.settings import Settings, load_settings
from worker.app import app
from worker.calling import Caller
from worker.commitment import Inquirer
from worker.delivery import Courier
from worker.hearing import Hearing
from worker.safekeeping import Keeper

log = logging.getLogger(__name__)

WORK_SECONDS: Final = 5.0
"""After this a task ends with the batch in hand; Celery stops a worker between tasks."""


class NodeTask(Task):  # type: ignore[misc]
    """A task with the node around it."""

    abstract = True
    queue_name = ""
    Request = Hearing

    @cached_property
    def settings(self) -> Settings:
        """The settings, read once per process."""
        return load_settings()

    @cached_property
    def records(self) -> Records:
        """This process's connections to the database."""
        return Records.open(self.settings)

    @cached_property
    def archive(self) -> Archive:
        """The files."""
        return Archive(self.settings.data_dir)

    @cached_property
    def bell(self) -> queue.Bell:
        """The bell at the other workers' door."""
        return queue.Bell(self.settings)

    @cached_property
    def pulse(self) -> Pulse:
        """By which the records know that this process lives; it begins with the process (``worker.app``)."""
        return Pulse(self.settings, self.queue_name)

    def begin(self) -> None:
        """The process begins, and gets no work before this returns."""
        self.pulse.begin()

    def end(self) -> None:
        """The process ends in order."""
        self.pulse.end()


class AnalysisTask(NodeTask):
    """A task with the model, loaded once per process, before the first study comes."""

    abstract = True
    queue_name = queue.ANALYSIS

    def begin(self) -> None:
        """As of any, with the model, where it can be loaded now: else with the first study, or after it."""
        super().begin()
        try:
            self.analyst.get_ready()
        except Exception as error:  # noqa: BLE001 - the process's edge: it is told again when a study comes
            log.warning("the model is not loaded yet: %s", error)

    @cached_property
    def analyst(self) -> Any:
        """Reads studies. Imported here: it loads torch, which the delivery worker never needs."""
        from worker.analysis import Analyst
        from worker.engines import configure_process

        configure_process(self.settings)
        return Analyst(self.settings, self.records, self.archive, self.bell, self.pulse)


class DeliveryTask(NodeTask):
    """A task with a sender."""

    abstract = True
    queue_name = queue.DELIVERY

    @cached_property
    def courier(self) -> Courier:
        """Brings results and images to destinations."""
        return Courier(self.settings, self.records, self.archive, pulse=self.pulse)

    def end(self) -> None:
        """The process ends in order: what destinations have open for us is released."""
        if "courier" in self.__dict__:
            self.courier.close()
        super().end()

    @cached_property
    def inquirer(self) -> Inquirer:
        """Asks destinations to commit to what they got."""
        return Inquirer(self.settings, self.records)

    @cached_property
    def keeper(self) -> Keeper:
        """Answers modalities that ask the node to commit."""
        return Keeper(self.settings, self.records, self.archive)

    @cached_property
    def caller(self) -> Caller:
        """Tells webhooks."""
        return Caller(self.settings, self.records, self.archive, self.pulse)


@app.task(bind=True, base=AnalysisTask, name=queue.TASKS[queue.ANALYSIS])  # type: ignore[untyped-decorator]
def analyse(task: AnalysisTask) -> None:
    """Analyses whatever is due."""
    _answer(task, queue.ANALYSIS, task.analyst.drain)


@app.task(bind=True, base=DeliveryTask, name=queue.TASKS[queue.DELIVERY])  # type: ignore[untyped-decorator]
def deliver(task: DeliveryTask) -> None:
    """Delivers whatever is due."""
    _answer(task, queue.DELIVERY, task.courier.drain)
    _answer(task, queue.DELIVERY, task.inquirer.drain)
    _answer(task, queue.DELIVERY, task.keeper.drain)
    _answer(task, queue.DELIVERY, task.caller.drain)


def _answer(task: NodeTask, queue_name: str, drain: Callable[[float], bool]) -> None:
    """Works for a while, and rings again where work is left: so a worker that is asked to stop soon does."""
    try:
        if not drain(WORK_SECONDS):
            task.bell.ring(queue_name)
    except TryAgain as error:
        log.warning("%s put off: %s", task.name, error)
    except Exception:  # the task's edge: what was claimed comes back when its lease ends
        log.exception("%s broke off", task.name)
