"""Settings: of the model (base model and detector), the data and the training; merged once, validated, frozen."""

from frcnn.config.dump import dump, dump_yaml, flat
from frcnn.config.merge import (
    Named,
    from_dict,
    make_config,
    parse_overrides,
    set_names,
    similar_settings,
    with_base_model,
    with_settings,
)
from frcnn.config.presets import base_model_names, recipe_names
from frcnn.config.run_config import dump_run, local_settings, read_run_config
from frcnn.config.schema import (
    AnchorSettings,
    BaseModelSettings,
    BoxDeltaSettings,
    Config,
    DataSettings,
    DetectorSettings,
    DrawSettings,
    ImageSettings,
    ModelSettings,
    ProposalSettings,
    ResultSettings,
    RoiTrainSettings,
    RpnTrainSettings,
    TrainSettings,
)
from frcnn.files import CONFIG_FILE, LOCAL_FILE

__all__ = [
    "CONFIG_FILE",
    "LOCAL_FILE",
    "AnchorSettings",
    "BaseModelSettings",
    "BoxDeltaSettings",
    "Config",
    "DataSettings",
    "DetectorSettings",
    "DrawSettings",
    "ImageSettings",
    "ModelSettings",
    "Named",
    "ProposalSettings",
    "ResultSettings",
    "RoiTrainSettings",
    "RpnTrainSettings",
    "TrainSettings",
    "base_model_names",
    "dump",
    "dump_run",
    "dump_yaml",
    "flat",
    "from_dict",
    "local_settings",
    "make_config",
    "parse_overrides",
    "read_run_config",
    "recipe_names",
    "set_names",
    "similar_settings",
    "with_base_model",
    "with_settings",
]
