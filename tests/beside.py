"""Work that goes on in threads of its own while a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Self


class Beside:
    """Begins with the block, and is waited for at its end; what works looks at ``_over``."""

    def __init__(self, works: Mapping[str, Callable[[], None]]) -> None:
        """Args:
        works: What each thread does, by its name.
        """
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, name=name) for name, work in works.items()]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
