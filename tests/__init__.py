"""Tests: a folder per room, with real peers where a peer is the truth."""
