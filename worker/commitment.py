"""Asking destinations to commit to what they got: one association each, as many objects as are due."""

from __future__ import annotations

import logging
from datetime import timedelta

from service.errors import KindRefused, PeerRefused, PeerUnavailable
from service.peers import Destination
from service.records import commitments
from service.records.commitments import Transaction
from service.records.database import Records
from service.records.retry import Retry
from service.settings import Settings
from service.wire.commitment import Reports, asking
from worker.rounds import Rounds

log = logging.getLogger(__name__)


class Inquirer(Rounds):
    """Asks what is due, and writes down what came of it. Reports are written as they come."""

    def __init__(self, settings: Settings, records: Records) -> None:
        self._settings = settings
        self._records = records
        self._retry = Retry.of(settings)
        self._timeout = timedelta(seconds=settings.commitment_timeout_seconds)
        self._complained: set[str] = set()
        self._reports = Reports(records, self._retry)

    def _round(self) -> bool:
        destinations = commitments.destinations_due(self._records)
        for destination in destinations:
            if destination.address in self._settings.commitment_addresses:
                self._ask(destination)
            else:
                self._leave(destination)
        return bool(destinations)

    def _ask(self, destination: Destination) -> None:
        transaction = commitments.begin(self._records, destination, self._timeout)
        if transaction is None:
            return
        try:
            with asking(self._settings, destination, self._reports) as inquiry:
                log.info("%s asked to commit to %s", destination.address, _words(transaction))
                inquiry.ask(transaction)
        except KindRefused as error:
            self._complain(destination, transaction, error)
            commitments.give_up(self._records, transaction, str(error))
        except (PeerUnavailable, PeerRefused) as error:
            log.warning("%s not asked to commit to %s: %s", destination.address, _words(transaction), error)
            commitments.put_off(self._records, transaction, str(error), self._retry)

    def _complain(self, destination: Destination, transaction: Transaction, error: KindRefused) -> None:
        """Once in this process; what follows is the same again, with other objects."""
        level = logging.INFO if destination.address in self._complained else logging.WARNING
        self._complained.add(destination.address)
        log.log(
            level,
            "%s offers no storage commitment (%s): %s stay sent, not committed; "
            "take it out of request_commitment_from",
            destination.address,
            error,
            _words(transaction),
        )

    def _leave(self, destination: Destination) -> None:
        """Of one that was asked until the settings changed."""
        count = commitments.ask_no_more(self._records, destination)
        log.info("%s is not asked any more to commit to %d objects", destination.address, count)


def _words(transaction: Transaction) -> str:
    return f"{len(transaction.objects)} objects in transaction {transaction.uid}"
