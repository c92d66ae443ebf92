"""No command connects to another machine, looks up a name, or leaves an identifier in the home folder."""

import json
import socket
import sys
from pathlib import Path

import torch
from network import ADDRESS, identifiers, to_others, traced
from tiny import SETTINGS, write_tiny
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

COMMANDS = """
import html, json, os, re, signal, sys, threading, time, urllib.request, webbrowser
from frcnn.cli import main

def visit(file):
    page = urllib.request.urlopen(file).read().decode()
    address = html.unescape(re.search('url=(http[^"]*)', page)[1])  # the private file leads to the page
    urllib.request.urlopen(address).read()
    os.kill(os.getpid(), signal.SIGINT)

webbrowser.open = lambda file: threading.Thread(target=visit, args=(file,)).start()

def use(service, photo):
    while True:
        try:
            urllib.request.urlopen(service + "/health").read()
            break
        except OSError:
            time.sleep(0.1)
    urllib.request.urlopen(service + "/predict", open(photo, "rb").read()).read()
    os.kill(os.getpid(), signal.SIGINT)

for command in json.loads(sys.argv[1]):
    print("frcnn", *command, flush=True)
    if command[0] == "serve":
        address = "http://127.0.0.1:" + command[command.index("--port") + 1]
        threading.Thread(target=use, args=(address, sys.argv[2]), daemon=True).start()
    assert main(command) == 0
"""

CONNECTIONS = """
import socket, subprocess, sys
for address in ("192.0.2.1", 9), ("127.0.0.1", 53), ("127.0.0.1", 9):
    socket.socket(type=socket.SOCK_DGRAM).connect(address)  # sends nothing
if sys.argv[1:]:
    subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_watch_sees_connections_and_name_lookups_of_children_too(tmp_path: Path) -> None:
    seen = to_others(traced(tmp_path, sys.executable, "-c", CONNECTIONS, CONNECTIONS))
    assert [ADDRESS.search(call)[2] for call in seen] == ["192.0.2.1", "127.0.0.1"] * 2  # type: ignore[index]


def test_no_command_sends_anything(tmp_path: Path) -> None:
    data, run = str(write_tiny(tmp_path / "data")), str(tmp_path / "run")
    photo, out = f"{data}/testImages/4.png", ("--out", str(tmp_path / "predictions"))
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    quick = ("--image-size", "96x128", "--batch", "1")
    theirs, ours, parts = (str(tmp_path / name) for name in ("theirs.pth", "ours.safetensors", "parts"))
    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=3)
    torch.save(model.state_dict(), theirs)
    commands = [
        ["check", data],
        ["convert", data, str(tmp_path / "coco"), "--to", "coco"],
        ["plan", data],
        ["train", data, "--out", run, "--logger", "tensorboard", *settings],
        ["evaluate", run],
        ["report", run],
        ["check", data, "--model", run],
        ["predict", run, photo, *out],
        ["predict", run, f"{data}/testImages", "--parts", parts],
        ["merge", parts, "--out", f"{parts}.jsonl"],
        ["import", theirs, "--from", "torchvision", "--classes", "cat,dog", "--out", ours],
        *(["export", run, "--to", to, *quick] for to in ("onnx", "openvino")),
        *(["predict", f"{run}/model{suffix}", photo, *out] for suffix in (".onnx", ".xml")),
        ["evaluate", f"{run}/model.onnx", "--data", data],
        ["annotate", data, "--model", run, "--port", "0", "--open"],
        ["serve", f"{run}/model.onnx", "--port", str(free_port())],
    ]
    trace = traced(tmp_path, sys.executable, "-c", COMMANDS, json.dumps(commands), photo)
    assert '"127.0.0.1"' in trace  # the visit of the page
    assert to_others(trace) == []
    assert identifiers(tmp_path) == []
