"""The life of one fit, which `README.md` in this folder describes."""
