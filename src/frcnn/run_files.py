"""The names of the files in a run directory."""

from pathlib import Path

CONFIG_FILE = "config.yaml"
"""All settings."""
LOCAL_FILE = "local.yaml"
"""The settings that are paths of this computer."""
PLAN_FILE = "plan.yaml"
DATA_REPORT_FILE = "data_report.json"
METRICS_FILE = "metrics.jsonl"
"""A line for each epoch and validation."""
CURVES_FILE = "curves.png"
MODEL_FILE = "model.safetensors"
BEST_FILE = "best.safetensors"
LAST_FILE = "last.safetensors"
EVALUATION_FILE = "metrics.json"
REPORT_FILE = "report.html"
CHECKPOINT_FILE = "checkpoint.pt"
"""The state of an unfinished training."""
UNFINISHED_FILE = ".unfinished"
BUDGET_FILE = ".budget"
"""The budget that the epochs of an unfinished run come from, seconds."""
LOCK_FILE = ".lock"
FAILED_STEP_FILE = "failed-step.pt"
CACHE_FOLDER = ".cache"
TENSORBOARD_FOLDER = "tensorboard"


def model_path(path: str | Path) -> Path:
    """Of a run directory, its model file; any other path is a model file itself."""
    path = Path(path)
    return path / MODEL_FILE if path.is_dir() else path
