"""What happens to every request before and after its view: identifier, token, rate, time limit, log and metrics."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frcnn.serve.limits import Limits
from frcnn.serve.metrics import ServiceMetrics

LOG = logging.getLogger("frcnn.serve")
_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'none'",
}
_MAX_CLIENTS = 10_000
FAILED = "The service failed; its log has the reason."
"""What a client is told of an unexpected error."""


class RateLimit:
    """A token bucket for each client: `rate` requests per second, and a burst of one second, at least one request."""

    def __init__(self, rate: float) -> None:
        self._rate, self._burst = rate, max(1.0, rate)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (tokens, time)

    def wait(self, client: str, now: float) -> float:
        """Count a request. Returns the seconds to wait; 0: it may be answered now."""
        tokens, before = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - before) * self._rate)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._rate


class Guard:
    """The outermost layer of the application.

    Without a token, only this computer can connect. Then the guard refuses what pages of other sites make a browser
    send: requests whose Host is not this computer (DNS rebinding), and those with another Origin.

    Args:
        token: that clients must send, as `Authorization: Bearer TOKEN` or as the password of basic authentication;
            None: none.
        paths: known addresses, for the metrics.
        open_paths: addresses that need no token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        limits: Limits,
        metrics: ServiceMetrics,
        paths: frozenset[str],
        open_paths: Callable[[str], bool],
    ) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._token, self._paths, self._is_open = token, paths, open_paths
        self._rate = None if limits.rate is None else RateLimit(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, headers, path = time.monotonic(), Headers(scope=scope), scope["path"]
        identifier = headers.get("x-request-id", "")
        identifier = identifier if _ID.fullmatch(identifier) else secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["facts"] = facts = {"id": identifier}  # views add to it, for the log
        status = 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer.setdefault(name, value)
                answer["X-Request-Id"] = identifier
            await send(message)

        answer = self._refusal(scope, headers) or self._app
        try:
            async with asyncio.timeout(self._limits.request_seconds):
                await answer(scope, receive, send_guarded)
        except TimeoutError:
            if not status:
                text = f"The answer took longer than {self._limits.request_seconds:g} s; try again later."
                await error(503, text, {"Retry-After": "5"})(scope, receive, send_guarded)
        except ClientDisconnect:
            status = 499  # as nginx logs it; nobody receives it
        except Exception as reason:
            LOG.error("failed", extra=facts, exc_info=reason)
            if status:  # the answer has begun, so the connection must end
                raise
            await error(500, FAILED)(scope, receive, send_guarded)
        finally:
            seconds = time.monotonic() - start
            known = path if path in self._paths else "other"
            self._metrics.requests.labels(known, str(status)).inc()
            self._metrics.request_seconds.labels(known).observe(seconds)
            client = scope["client"][0] if scope.get("client") else ""
            request = {"method": scope["method"], "path": path[:200], "status": status, "client": client}
            LOG.info("request", extra=facts | request | {"seconds": round(seconds, 4)})

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        path = scope["path"]
        if self._rate is not None and not self._is_open(path):  # also guesses of the token
            wait = self._rate.wait(scope["client"][0] if scope.get("client") else "", time.monotonic())
            if wait:
                text = f"Too many requests; this service answers {self._limits.rate:g} per second and client (--rate)."
                return error(429, text, {"Retry-After": str(math.ceil(wait))})
        if self._token is None:
            if not _is_loopback_name(headers.get("host", "")):
                return error(
                    403,
                    "The Host header is not localhost. To use another name or a proxy, start the service with --token.",
                )
            if "origin" in headers and _host_of(headers["origin"]) != headers.get("host"):
                return error(403, "Pages of other sites may not use this service.")
        elif not self._is_open(path) and not _has_token(headers, self._token):
            text = "Send the token of the service: `Authorization: Bearer TOKEN`."
            return error(401, text, {"WWW-Authenticate": "Bearer"})
        return None


def error(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer to a request that cannot be fulfilled."""
    return JSONResponse({"error": text}, status, headers)


def _host_of(origin: str) -> str | None:
    """None: not an address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _is_loopback_name(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", name) is not None


def _has_token(headers: Headers, token: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return secrets.compare_digest(given.strip().encode(), token.encode())
