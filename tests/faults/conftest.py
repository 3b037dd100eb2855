"""What a listener in a test's own process needs."""

from tests.service.conftest import process_settings

__all__ = ["process_settings"]
