"""Machines are cut off in the middle of a study, and come back: nothing is lost, and nothing doubled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.faults.machines import MODALITY, NODE_A, NODE_B, NODE_C, PARTS, STEP, Machines, machines_up
from tests.faults.modality import Answered, at_rest, new_study
from tests.faults.steps import ANALYSIS, Step
from tests.waiting import wait_until

IMAGES: Final = 3
_LONG_SECONDS: Final = 120.0

_LEASE_SECONDS: Final = 3.0
"""Of analyses and deliveries on these machines (``tests.faults.rig.HURRIED``)."""

pytestmark = pytest.mark.timeout(600)


class Ward:
    """The machines, and what was sent to them so far."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.answered: list[Answered] = []
        self._numbers = count()

    def new_study(self) -> list[Path]:
        number = next(self._numbers)
        return new_study(self.machines.folder / "images" / str(number), IMAGES, first_phantom=number)

    def send(self, to: str, files: list[Path]) -> None:
        """Sends a study, which has to be taken at once."""
        assert self.machines.send(to, files) == files
        self.answered += map(Answered.of, files)

    def wait_until_delivered(self) -> None:
        studies = len({one.study_instance_uid for one in self.answered})
        wait_until(lambda: at_rest(self.machines.database, studies), _LONG_SECONDS, "studies delivered")

    def wait_until_held(self, step: Step) -> str:
        """The machine at which somebody stays at a step."""
        held = wait_until(lambda: self.machines.held_at(step), _LONG_SECONDS, f"machine at {step.name!r}")
        assert held
        return held

    def cut(self, *host_names: str) -> float:
        """Cuts machines off; since when is returned."""
        for name in host_names:
            self.machines.network.cut(self.machines.hosts[name])
        return time.monotonic()

    def heal(self, *host_names: str, cut_at: float) -> None:
        """Has machines come back, once they were away for longer than a lease."""
        time.sleep(max(0.0, cut_at + 2 * _LEASE_SECONDS - time.monotonic()))
        for name in host_names:
            self.machines.network.heal(self.machines.hosts[name])

    def require_promises(self) -> None:
        assert not self.machines.broken_promises(self.answered)
        assert not self.machines.ended()


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with machines_up(tmp_path_factory.mktemp("machines")) as machines:
        machines.network.make_impatient(machines.hosts[MODALITY])
        yield Ward(machines)


@pytest.fixture(autouse=True)
def whole_again(ward: Ward) -> Iterator[None]:
    """After a test every machine is back, so that one that fails leaves the next its network."""
    yield
    for host in ward.machines.hosts.values():
        ward.machines.network.heal(host)


def test_a_listener_s_machine_is_cut_off_in_mid_study(ward: Ward) -> None:
    step, files = STEP["committed, not answered"], ward.new_study()
    ward.machines.hold_at(step, [NODE_A], which=2)
    with ThreadPoolExecutor() as modality:
        sending = modality.submit(ward.machines.send, NODE_A, files)
        assert ward.wait_until_held(step) == NODE_A
        cut_at = ward.cut(NODE_A)
        ward.machines.let_go(step, NODE_A)
        answered = sending.result()
    assert len(answered) < IMAGES
    ward.answered += map(Answered.of, answered)
    ward.send(NODE_B, [file for file in files if file not in answered])
    ward.wait_until_delivered()
    ward.heal(NODE_A, cut_at=cut_at)
    ward.require_promises()


def test_a_worker_s_machine_is_cut_off_in_mid_analysis(ward: Ward) -> None:
    step = STEP["in mid-analysis"]
    ward.machines.hold_at(step, list(PARTS))
    ward.send(NODE_B, ward.new_study())
    name = ward.wait_until_held(step)
    cut_at = ward.cut(name)
    ward.wait_until_delivered()
    ward.heal(name, cut_at=cut_at)
    ward.machines.let_go(step, name)
    dropped = "its results are dropped"
    wait_until(lambda: dropped in ward.machines.log(name, ANALYSIS), _LONG_SECONDS, "late results dropped")
    ward.require_promises()


def test_a_delivery_worker_s_machine_is_cut_off_in_mid_delivery(ward: Ward) -> None:
    step = STEP["stored at the PACS, not recorded"]
    ward.machines.hold_at(step, [NODE_A, NODE_C])
    ward.send(NODE_B, ward.new_study())
    name = ward.wait_until_held(step)
    cut_at = ward.cut(name)
    ward.wait_until_delivered()
    ward.heal(name, cut_at=cut_at)
    ward.machines.let_go(step, name)
    ward.require_promises()


def test_what_was_cut_off_goes_on_without_a_restart(ward: Ward) -> None:
    cut_at = ward.cut(NODE_B, NODE_C)
    files = ward.new_study()
    wait_until(lambda: ward.machines.send(NODE_A, files) == files, _LONG_SECONDS, "study taken")
    ward.answered += map(Answered.of, files)
    ward.wait_until_delivered()
    ward.heal(NODE_B, NODE_C, cut_at=cut_at)
    (healed_at,) = ward.machines.rows("SELECT now()")[0]
    silent = f"SELECT host, part FROM worker_process WHERE beaten_at <= '{healed_at.isoformat()}'"
    wait_until(lambda: not ward.machines.rows(silent), _LONG_SECONDS, "beat of every worker")
    ward.require_promises()
