"""What a training changes, kept and put back: variables, what layers hold, random states."""
