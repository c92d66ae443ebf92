"""`frcnn serve`: an HTTP service."""

import argparse
import os
import secrets
import sys
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frcnn.cli.options import (
    MODEL_HELP,
    Commands,
    add_command,
    add_host_and_port,
    add_precision,
    add_threshold,
    add_trust,
    positive_integer,
    time_span,
)
from frcnn.messages import plural

if TYPE_CHECKING:
    from frcnn.serve.retraining import TrainingPlan
    from frcnn.serve.server import Started

_TOKEN, _KEY = "FRCNN_TOKEN", "LABEL_STUDIO_API_KEY"


def register(commands: Commands) -> None:
    about = "answer HTTP requests with detections"
    parser = add_command(commands, "serve", run, about, "frcnn serve runs/demo/run, then open http://127.0.0.1:8000")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_host_and_port(parser, "; other addresses need a token")
    parser.add_argument(
        "--token",
        metavar="T",
        help=f"clients must send `Authorization: Bearer T` (default: the environment variable {_TOKEN}, which other "
        "users of the machine do not see)",
    )
    parser.add_argument(
        "--workers",
        type=positive_integer,
        default=1,
        metavar="N",
        help="processes, each with a model of its own and its part of the cores (default: 1)",
    )
    parser.add_argument(
        "--max-batch", type=positive_integer, default=8, metavar="N", help="images predicted together (default: 8)"
    )
    parser.add_argument(
        "--max-wait",
        type=time_span,
        default=0.005,
        metavar="TIME",
        help="how long a batch waits for requests that are arriving, e.g. 5ms (default: 5ms)",
    )
    add_threshold(parser)
    add_precision(parser)
    add_trust(parser)
    for name, default, about in (
        ("body", 20, "largest request in megabytes"),
        ("pixels", 50, "largest image in million pixels"),
        ("images", 16, "most images of a request"),
        ("waiting", 64, "most images that wait in a worker; others are refused with status 503"),
    ):
        parser.add_argument(
            f"--max-{name}", type=positive_integer, default=default, metavar="N", help=f"{about} (default: {default})"
        )
    parser.add_argument(
        "--rate", type=_rate, metavar="X", help="requests per second of one client and worker (default: no limit)"
    )
    parser.add_argument(
        "--label-studio",
        metavar="URL",
        help="read the images of tasks from this Label Studio server, with the access token in the variable "
        f"{_KEY} (docs/labeling-tools.md)",
    )
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="when somebody presses `Start Training` in Label Studio, train on the project and serve the new model",
    )
    parser.add_argument(
        "--retrain-config",
        type=Path,
        metavar="FILE",
        help="settings for retraining, e.g. config.yaml of a run directory (default: as frcnn train without settings)",
    )


def run(options: argparse.Namespace) -> None:
    from frcnn.inference.runtimes import is_exported
    from frcnn.serve.limits import Limits
    from frcnn.serve.model import Source
    from frcnn.serve.server import Settings, serve

    token = _token(options)
    if options.max_waiting < options.max_images:
        raise ValueError(
            f"--max-waiting {options.max_waiting}: must be at least --max-images ({options.max_images}); otherwise "
            f"large requests would never be answered"
        )
    if options.precision is not None and is_exported(options.model):
        raise ValueError(f"--precision: {options.model} is exported and cannot change; export the model again")
    settings = Settings(
        Source(str(options.model), options.precision, options.trust_file),
        Limits(
            body_bytes=options.max_body << 20,
            pixels=options.max_pixels * 1_000_000,
            images=options.max_images,
            waiting=options.max_waiting,
            rate=options.rate,
        ),
        token,
        options.max_batch,
        options.max_wait,
        options.threshold,
        _label_studio(options),
    )

    def on_ready(started: "Started") -> None:
        print(
            f"{started.model}: {plural(started.classes, 'class', 'classes')}, version {started.version}\n"
            f"open {started.url} to try it; {started.url}/docs describes the requests\n"
            f"press Ctrl-C to stop",
            flush=True,
        )

    with suppress(KeyboardInterrupt):  # to stop is no error: running requests were answered
        serve(settings, host=options.host, port=options.port, workers=options.workers, on_ready=on_ready)
    print("stopped")


def _token(options: argparse.Namespace) -> str | None:
    """The token that clients must send.

    Raises:
        ValueError: the network can reach the service, and there is no token.
    """
    from frcnn.http.address import is_loopback

    token, name = (options.token, "--token") if options.token is not None else (os.environ.get(_TOKEN), _TOKEN)
    if token is not None and (len(token) < 8 or not token.isascii() or not token.isprintable() or " " in token):
        raise ValueError(f"{name}: must have at least 8 ASCII characters, without spaces")
    if token is None and not is_loopback(options.host):
        raise ValueError(
            f"--host {options.host}: others can reach the service, so it needs a token, for example: "
            f"{_TOKEN}={secrets.token_urlsafe(16)} frcnn serve {Path(options.model)} --host {options.host}"
        )
    return token


def _label_studio(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `LabelStudio`.

    Raises:
        ValueError: the options do not fit together.
    """
    from frcnn.serve.label_studio_client import Client

    if options.retrain_config is not None and not options.retrain:
        raise ValueError("--retrain-config: only with --retrain")
    if options.retrain and options.label_studio is None:
        raise ValueError("--retrain: the annotations come from Label Studio; add --label-studio URL")
    if options.label_studio is None:
        return {}
    key = os.environ.get(_KEY, "")
    if not key:
        raise ValueError(
            f"--label-studio: set {_KEY} to your access token, which Label Studio shows under Account & Settings"
        )
    try:
        Client(options.label_studio, key)
    except ValueError as error:
        raise ValueError(f"--label-studio: {error}") from None
    arguments = {"url": options.label_studio, "key": key}
    if options.retrain:
        _require_retrainable(options)
        arguments["train"] = partial(_plan_training, options)
    return arguments


def _require_retrainable(options: argparse.Namespace) -> None:
    if options.workers > 1:
        raise ValueError("--retrain: the workers would serve different models; leave out --workers")
    if not Path(options.model).is_dir():
        raise ValueError(f"--retrain: {options.model} is not a run directory; serve what frcnn train has written")
    if options.retrain_config is not None and not options.retrain_config.is_file():
        raise ValueError(f"--retrain-config: there is no file {options.retrain_config}")
    if find_spec("torch") is None:
        raise ValueError("--retrain: training needs PyTorch; install it, or serve without --retrain")


def _plan_training(options: argparse.Namespace, project: int) -> "TrainingPlan":
    """The next training on a project of Label Studio."""
    from frcnn.serve.retraining import TrainingPlan
    from frcnn.training.run_dir import new_run_dir

    run_dir = new_run_dir(None, f"label-studio-{project}")
    data = run_dir.parent / f"label-studio-{project}-data"
    settings = [] if options.retrain_config is None else ["--config", str(options.retrain_config)]
    command = [sys.executable, "-m", "frcnn", "train", str(data), *settings, "--out", str(run_dir)]
    return TrainingPlan(data, command, run_dir)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number above 0")
    return value
