"""An operation begins only when the reactor stands still, however short a moment ago it was let go."""

from __future__ import annotations

import threading
import time
from typing import Any

from service.wire.checkpoint import Checkpoint


class Reactor(threading.Thread):
    """Goes round as pynetdicom's does: past the checkpoint, then takes what there is."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.rounds = 0
        self.ends = False
        association: Any = self
        self.checkpoint = Checkpoint(association)

    def run(self) -> None:
        while not self.ends:
            self.checkpoint.wait()
            self.rounds += 1


def test_a_reactor_that_was_just_let_go_stands_still_again() -> None:
    reactor = Reactor()
    reactor.start()
    for _ in range(3000):
        reactor.checkpoint.clear()
        before = reactor.rounds
        time.sleep(0)  # lets the reactor run, if it can
        assert reactor.rounds == before
        reactor.checkpoint.set()
    reactor.ends = True
    reactor.join(10)
    assert reactor.rounds > 0 and not reactor.is_alive()
    reactor.checkpoint.clear()  # nobody is there to wait for
