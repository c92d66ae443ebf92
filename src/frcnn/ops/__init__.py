"""The mathematics of Faster R-CNN, as pure functions: plain tensors and numbers in, tensors out."""
