"""Bytes that nobody should send, by the three ways into the node: PDUs, datasets, compressed pixels.

``LITEGPT_TEST_FUZZ_EXAMPLES`` says how many of each are tried; few by default, thousands in a campaign.
"""

from __future__ import annotations

import os

EXAMPLES = int(os.environ.get("LITEGPT_TEST_FUZZ_EXAMPLES", "60"))
