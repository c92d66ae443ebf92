"""The network: base models, region proposal network, RoI head, and the detector made of them."""
