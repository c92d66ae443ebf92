"""The address that a server listens on."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager


def is_loopback(host: str) -> bool:
    """Whether only programs of this computer can connect to this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def listening_socket(host: str, port: int, backlog: int) -> Iterator[socket.socket]:
    """A socket that listens.

    Args:
        port: 0: any free port.
        backlog: connections that may wait to be accepted.

    Raises:
        OSError: the port is taken, or the address is not of this computer.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio turns Nagle's algorithm off; that would add 40 ms to each request of an open
    # connection.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise OSError(
                f"{host}:{port}: cannot listen there ({error.strerror}); --port 0 takes a free port"
            ) from None
        listening.listen(backlog)
        yield listening


def address_of(listening: socket.socket, host: str) -> str:
    """What a browser opens.

    Args:
        host: as the user named it.
    """
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"
