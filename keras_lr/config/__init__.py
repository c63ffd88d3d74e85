"""Configs: callbacks as plain data, from mappings and from YAML, TOML and JSON files."""

from keras_lr.config.files import load, save
from keras_lr.config.problems import ConfigError
from keras_lr.config.reader import from_config
from keras_lr.config.registry import register
from keras_lr.config.schema import schema
from keras_lr.config.writer import to_config

__all__ = ["ConfigError", "from_config", "load", "register", "save", "schema", "to_config"]
