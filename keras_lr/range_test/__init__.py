"""The learning-rate range test, and the rules that read its curve."""

from keras_lr.range_test.callback import LRRangeTest, Outcome
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.range_test.result import RangeTestResult

__all__ = ["LRRangeTest", "NoSuggestion", "Outcome", "RangeTestResult"]
