"""Speed of frcnn and torchvision, compared in one run. First a check makes sure that both compute the same."""

WHAT = ("ops", "predict", "train", "data", "eval")
"""What can be measured."""
BASE_MODELS = ("alexnet", "vgg16", "fasterrcnn_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_fpn", "efficientnet_lite0")
"""Measured by default."""
