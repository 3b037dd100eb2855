"""The models that a worker holds in memory: loaded when there is work for them, a few at most."""

from __future__ import annotations

import gc
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import torch

from litegpt.cores import usable_cores
from litegpt.engine import Engine
from litegpt.identity import ModelIdentity
from service.models.roster import KnownModel
from service.settings import Settings
from worker.errors import ModelAway

log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 60.0
"""A model that could not be loaded is not tried again so soon."""


def configure_process(settings: Settings) -> None:
    """Gives torch its share of the cores; called once, where the process begins.

    Its threads wait for each other by looking again and again. With as many as there are cores, each of them
    waits whenever a core decodes an image or makes a report, and reading takes several times as long.
    """
    share = settings.model_threads or min(torch.get_num_threads(), max(1, usable_cores() // 2))
    torch.set_num_threads(share)


class Engines:
    """What is loaded; of more than may be, the one that was used last the longest ago goes."""

    def __init__(self, most: int, load: Callable[[str], Engine] = Engine.load) -> None:
        """Args:
        most: How many at once.
        load: Loads the model of a folder.
        """
        self._most = most
        self.load = load
        self._loaded: OrderedDict[tuple[ModelIdentity, str], Engine] = OrderedDict()
        self._not_before: dict[ModelIdentity, float] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The models that are loaded, as a person calls them; the one that was used last stands last."""
        return tuple(f"{identity.id} {identity.version}" for identity, _ in self._loaded)

    def holds(self, model: KnownModel) -> bool:
        """Whether it is loaded."""
        return _key(model) in self._loaded

    def may_be_asked(self, model: KnownModel) -> bool:
        """Whether it was not found impossible to load a moment ago."""
        return time.monotonic() >= self._not_before.get(model.identity, 0.0)

    def get(self, model: KnownModel) -> Engine:
        """A model's engine, loaded where it was not.

        Raises:
            ModelAway: If it cannot be loaded; the others can be used all the same.
        """
        engine = self._loaded.pop(_key(model), None) or self._load(model)
        self._loaded[_key(model)] = engine
        return engine

    def _load(self, model: KnownModel) -> Engine:
        self._keep_at_most(self._most - 1)
        begun = time.monotonic()
        try:
            model.require_unchanged()
            try:
                engine = self.load(model.folder)
            except torch.OutOfMemoryError:
                log.warning("no room for %s beside the others: they go", model)
                self._keep_at_most(0)
                engine = self.load(model.folder)
        except Exception as error:  # the edge to libraries that load what they are given
            self._not_before[model.identity] = time.monotonic() + AGAIN_SECONDS
            raise ModelAway(f"the model {model} cannot be loaded: {error}") from error
        log.info("%s is loaded, in %.1f s", model, time.monotonic() - begun)
        return engine

    def _keep_at_most(self, most: int) -> None:
        if len(self._loaded) <= most:
            return
        while len(self._loaded) > most:
            (identity, _), _engine = self._loaded.popitem(last=False)
            del _engine
            log.info("%s %s gives its room to another model", identity.id, identity.version)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _key(model: KnownModel) -> tuple[ModelIdentity, str]:
    return model.identity, f"{model.folder} {model.digest}"
