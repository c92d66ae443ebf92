"""What tests of the server and of its page say of it."""

from collections.abc import Callable

TOKEN = "a-token"
Serve = Callable[..., str]
"""Serves a folder, and gives the address to open."""
