"""nnU-Net v2 results folders as models: read as data, loaded as tensors; nnU-Net itself is not needed."""
