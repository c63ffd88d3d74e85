"""The version of the package, which building it reads without an import."""

__version__ = "0.2.0.dev0"
