"""The command `frcnn` without the seconds that imports take: a server has imported everything, and forks for each
command. The command on PATH is a client, which passes its arguments, folder, environment and streams.

python tests/warm_frcnn.py SOCKET serve
python tests/warm_frcnn.py SOCKET run ARGUMENTS
"""

import atexit
import gc
import json
import os
import signal
import socket
import sys
from importlib import import_module
from typing import Never

STREAMS = (0, 1, 2)


def serve(path: str) -> Never:
    """Answer clients until the server is ended."""
    import frcnn
    from frcnn.cli import main

    for name in frcnn.__all__:
        getattr(frcnn, name)  # imported at first use
    for name in ("jinja2", "timm"):
        import_module(name)
    gc.freeze()  # the children do not look at these objects, which would copy them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{path}.partial")
        server.listen()
        os.rename(f"{path}.partial", path)  # clients find it when it listens
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                break
            client.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with client:
        message, streams, _, _ = socket.recv_fds(client, 1 << 20, len(STREAMS))
        while part := client.recv(1 << 20):
            message += part
        folder, environment, arguments = json.loads(message)
        for ours, theirs in zip(STREAMS, streams, strict=True):
            os.dup2(theirs, ours)
            os.close(theirs)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")  # the server's may have other properties, such as a position
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1)
        os.chdir(folder)
        os.environ.update(environment)  # and what `import frcnn` has set
        try:
            status = main(arguments)
        except SystemExit as error:  # argparse
            status = int(error.code or 0)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        client.sendall(bytes([status]))
    os._exit(status)  # to delete every object would copy the server's memory, for seconds


def run(path: str, arguments: list[str]) -> int:
    """Let the server run a command. Returns its exit status."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        message = json.dumps([os.getcwd(), dict(os.environ), arguments]).encode()
        server.sendall(message[socket.send_fds(server, [message], STREAMS) :])
        server.shutdown(socket.SHUT_WR)
        return (server.recv(1) or b"\x01")[0]


if __name__ == "__main__":
    _, given, what, *rest = sys.argv
    if what == "serve":
        serve(given)
    sys.exit(run(given, rest))
