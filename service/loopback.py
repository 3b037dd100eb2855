"""Which addresses only this machine reaches."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether the host, by name or address, is this machine itself, and nobody else reaches it there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
