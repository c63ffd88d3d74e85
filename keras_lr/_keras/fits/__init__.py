"""Access to a running fit of Keras: its functions, callbacks, data and compiled step."""
