"""A running fit of Keras: its functions, its callbacks, its data and its compiled step."""
