"""Posting one message to one webhook, signed as Standard Webhooks 1.0 has it.

    webhook-id: the same at every attempt, so that a receiver knows what it has had
    webhook-timestamp: seconds since 1970, of this attempt
    webhook-signature: "v1," and base64 of HMAC-SHA256 over "ID.TIMESTAMP.BODY"

Nothing of the environment decides where it goes or what it carries: no proxy, no ``.netrc``. Certificates are
checked against those that the system trusts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import time
from functools import cache
from typing import Final

import httpx

from service.errors import PeerRefused, PeerUnavailable
from service.webhooks.webhook import Webhook

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0

TRY_AGAIN: Final = frozenset({408, 425, 429})
"""Of 4xx, those that ask for another attempt (RFC 9110 15.5.9, RFC 8470 5.2, RFC 6585 4)."""


def post(webhook: Webhook, message_id: str, body: bytes) -> int:
    """Posts a message once.

    Returns:
        The status, which is 2xx.

    Raises:
        PeerUnavailable: If there is no answer, or one that may be another at the next attempt.
        PeerRefused: If it answers 4xx: the same message is not wanted.
    """
    headers = {"content-type": "application/json", "user-agent": "litegpt-node"}
    headers |= signed(webhook.key, message_id, int(time.time()), body)
    timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    try:
        with (
            httpx.Client(verify=_trust(), timeout=timeout, trust_env=False) as client,
            # The answer's body is nobody's business, and may be of any length.
            client.stream("POST", webhook.url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except httpx.HTTPError as error:
        raise PeerUnavailable(f"{webhook.origin}: {_words(error)}") from error
    if 200 <= status < 300:
        return status
    if 400 <= status < 500 and status not in TRY_AGAIN:
        raise PeerRefused(f"{webhook.origin} answered {status}: refused")
    what = "a redirect, which is not followed" if 300 <= status < 400 else "not now"
    raise PeerUnavailable(f"{webhook.origin} answered {status}: {what}")


def signed(key: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers by which a receiver knows that a message is ours, and new."""
    mac = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def _words(error: httpx.HTTPError) -> str:
    """What went wrong, in one line; httpx leaves some of its errors without a word."""
    return " ".join(str(error).split()) or type(error).__name__
