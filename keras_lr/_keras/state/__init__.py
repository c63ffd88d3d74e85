"""The state that a training run changes: variables, values held by layers, random states."""
