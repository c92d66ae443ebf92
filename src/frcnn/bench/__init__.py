"""How fast it is: ours beside what users would take else, in one run, after a check that both compute the same."""

WHAT = ("ops", "predict", "train", "data", "eval")
"""What can be measured."""
BASE_MODELS = ("alexnet", "vgg16", "fasterrcnn_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_fpn", "efficientnet_lite0")
"""Those that are, unless others are named."""
