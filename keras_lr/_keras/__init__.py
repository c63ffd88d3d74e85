"""The one door to what Keras does not promise."""
