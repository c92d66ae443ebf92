"""The socket that the servers listen on."""

import asyncio
import socket

import pytest
from service import run_async

from frcnn.http.address import listening_socket


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_leave_at_once(host: str) -> None:
    """Without TCP_NODELAY, each request of an open connection takes 40 ms more."""

    async def scenario() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listening_socket(host, 0, backlog=1) as listening:
            async with await asyncio.start_server(answer, sock=listening):
                _, writer = await asyncio.open_connection(*listening.getsockname()[:2])
                no_delay = await accepted
                writer.close()
                return no_delay

    assert run_async(scenario) != 0
