"""What keras_lr costs, measured beside its peers: ``python -m benchmarks``."""
