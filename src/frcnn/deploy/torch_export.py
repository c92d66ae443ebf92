"""To torch.export's .pt2: for PyTorch itself, where torchvision and frcnn, whose operators are in the file, are
installed."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.export import ExportedProgram

from frcnn.deploy.quiet import quiet
from frcnn.detectors import DESCRIPTION_FILE


def write_torch(program: ExportedProgram, metadata: Mapping[str, str], path: Path) -> None:
    """Write a graph and what it says of itself."""
    with quiet():
        torch.export.save(program, path, extra_files={DESCRIPTION_FILE: json.dumps(dict(metadata))})
