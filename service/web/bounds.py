"""What bounds each request: the bytes of its body, and the time until its answer begins."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web.problems import refusal

BODY_BYTES: Final = 1 << 20
ANSWER_SECONDS: Final = 20.0


class _TooLarge(Exception):
    """The body is larger than it may be."""


class Bounds:
    """ASGI middleware: 413 for a body that is too large, 503 where no answer begins in time.

    A thread that works on such a request goes on until its statement ends; the browser does not wait for it.
    """

    def __init__(
        self, app: ASGIApp, body_bytes: int = BODY_BYTES, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._answer_seconds = answer_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, bounded."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > self._body_bytes:
            await refusal(scope, 413, "The request is too large.")(scope, receive, send)
            return
        await self._bounded(scope, receive, send)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._body_bytes:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            limit.reschedule(None)
            await send(message)

        try:
            async with asyncio.timeout(self._answer_seconds) as limit:
                await self._app(scope, counted, noted)
        except (TimeoutError, _TooLarge) as error:
            if begun:
                raise
            late = isinstance(error, TimeoutError)
            words = "The node takes too long to answer." if late else "The request is too large."
            await refusal(scope, 503 if late else 413, words)(scope, receive, send)
