"""To torch.export's .pt2: for PyTorch itself, where torchvision and frcnn, whose operators are in the file, are
installed."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.export import ExportedProgram

from frcnn.detectors import DESCRIPTION_FILE


def write_torch(program: ExportedProgram, metadata: Mapping[str, str], path: Path) -> None:
    """Write a graph and what it says of itself."""
    with warnings.catch_warnings(action="ignore"):  # of torch.export about its own tensors
        torch.export.save(program, path, extra_files={DESCRIPTION_FILE: json.dumps(dict(metadata))})
