"""The learning-rate range test, and the rules that read its curve."""

from keras_lr.range_test.advice import Advice, Conditions, Training
from keras_lr.range_test.callback import LRRangeTest
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.range_test.in_fit import Outcome
from keras_lr.range_test.result import RangeTestResult
from keras_lr.range_test.search import SearchResult

__all__ = [
    "Advice",
    "Conditions",
    "LRRangeTest",
    "NoSuggestion",
    "Outcome",
    "RangeTestResult",
    "SearchResult",
    "Training",
]
