"""Export to torch.export's .pt2, for PyTorch; needs torchvision and frcnn, whose operators are in the file."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.export import ExportedProgram

from frcnn.export.quiet import quiet
from frcnn.inference.runtimes import DESCRIPTION_FILE


def write_torch(program: ExportedProgram, metadata: Mapping[str, str], path: Path) -> None:
    """Write a graph and its description, without stack traces, which hold paths of this machine."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    with quiet():
        torch.export.save(program, path, extra_files={DESCRIPTION_FILE: json.dumps(dict(metadata))})
