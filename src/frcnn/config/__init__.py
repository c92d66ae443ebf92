"""Settings: three validated parts (base model, detector, data) and training, merged once, then frozen."""

from frcnn.config.merge import base_model_names, dump, dump_yaml, from_dict, merge, recipe_names
from frcnn.config.settings import (
    AnchorSettings,
    BaseModelSettings,
    BoxDeltaSettings,
    Config,
    DataSettings,
    DetectorSettings,
    DrawSettings,
    ImageSettings,
    ProposalSettings,
    ResultSettings,
    RoiTrainSettings,
    RpnTrainSettings,
    TrainSettings,
)

__all__ = [
    "AnchorSettings",
    "BaseModelSettings",
    "BoxDeltaSettings",
    "Config",
    "DataSettings",
    "DetectorSettings",
    "DrawSettings",
    "ImageSettings",
    "ProposalSettings",
    "ResultSettings",
    "RoiTrainSettings",
    "RpnTrainSettings",
    "TrainSettings",
    "base_model_names",
    "dump",
    "dump_yaml",
    "from_dict",
    "merge",
    "recipe_names",
]
