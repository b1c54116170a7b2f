"""Find the answer in a text, and say which answers are the same. No answer is None: it never votes and never wins."""

from antaeus.answers.equivalence import classes, equivalent, judge, plurality
from antaeus.answers.find import FORMS, extract
from antaeus.answers.normal import canonical

__all__ = ["FORMS", "canonical", "classes", "equivalent", "extract", "judge", "plurality"]
