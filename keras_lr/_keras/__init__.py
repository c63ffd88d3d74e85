"""The only place that relies on what Keras does not promise."""
