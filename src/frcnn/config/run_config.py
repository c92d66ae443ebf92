"""Reads and writes a run's settings: config.yaml (portable) and local.yaml (paths of this computer)."""

from pathlib import Path
from typing import Any

import yaml

from frcnn.config.dump import dump_yaml
from frcnn.config.merge import make_config
from frcnn.config.schema import Config
from frcnn.run_files import CONFIG_FILE, LOCAL_FILE
from frcnn.yaml_text import load_yaml

LOCAL_SETTINGS = ("data.path", "base_model.weights")
"""Paths of this computer."""
_HEADER = "# Paths on this machine. Do not pass on this file; the other files of the run directory hold no paths.\n"


def dump_run(config: Config) -> dict[str, str]:
    """The contents of config.yaml and local.yaml, by file name. config.yaml has no data path, and of a weights file
    only the name."""
    local: dict[str, Any] = {"data.path": config.data.path}
    data = config.data.model_copy(update={"path": None})
    base_model, weights = config.base_model, config.base_model.weights
    if weights not in (None, "none", "coco"):
        local["base_model.weights"] = weights
        base_model = base_model.model_copy(update={"weights": Path(weights).name})
    shareable = config.model_copy(update={"data": data, "base_model": base_model})
    local_yaml = yaml.safe_dump(local, allow_unicode=True, width=10**6)
    return {LOCAL_FILE: _HEADER + local_yaml, CONFIG_FILE: dump_yaml(shareable)}


def read_run_config(run_dir: Path) -> Config:
    """The settings that a run directory was made with.

    Raises:
        FileNotFoundError: there is no config.yaml.
        ValueError: a file is damaged, or made by another version of frcnn.
    """
    return make_config(file=run_dir / CONFIG_FILE, overrides=local_settings(run_dir / CONFIG_FILE))


def local_settings(config: Path) -> dict[str, Any]:
    """The settings in local.yaml beside a config file, by dotted name; none if there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    file = config.parent / LOCAL_FILE
    if not file.is_file():
        return {}
    try:
        values = load_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not a YAML file ({error}); delete it, and name the data again") from None
    return {name: value for name, value in dict(values or {}).items() if name in LOCAL_SETTINGS}
