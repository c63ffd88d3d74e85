"""The learning-rate range test, and the rules that read its curve."""

from typing import TYPE_CHECKING

from keras_lr._late import find_late
from keras_lr.range_test.callback import LRRangeTest
from keras_lr.range_test.curve import NoSuggestion

if TYPE_CHECKING:
    from keras_lr.range_test.advice import Advice, Conditions, Training
    from keras_lr.range_test.in_fit import Outcome
    from keras_lr.range_test.result import RangeTestResult
    from keras_lr.range_test.search import SearchResult
else:
    __getattr__ = find_late(__name__, "advice", "in_fit", "result", "search")

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
