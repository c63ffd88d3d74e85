"""Configs: callbacks as plain data, from mappings and from YAML, TOML and JSON files."""

from keras_lr.config.files import load, save
from keras_lr.config.reader import ConfigError, from_config, to_config
from keras_lr.config.registry import register
from keras_lr.config.schema import schema

__all__ = ["ConfigError", "from_config", "load", "register", "save", "schema", "to_config"]
