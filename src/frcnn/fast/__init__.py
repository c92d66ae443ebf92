"""What makes a model faster. The model and `frcnn.ops` are the plain reference; `optimize.optimize` is applied last."""
