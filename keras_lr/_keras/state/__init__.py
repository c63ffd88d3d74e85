"""What a training run changes, kept and put back: variables, what layers hold, random states."""
