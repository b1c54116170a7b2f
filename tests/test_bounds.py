"""Settings that a model chose, against the user's bounds."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antaeus.learn.bounds import Bounds, Settings

GOOD = Settings(1e-3, 10, "all", ("basic", "chain"))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    max_leaves=10,
)


@pytest.mark.parametrize("good", [GOOD, Settings(1e-6, 1, "output"), Settings(1e-2, 20.0, "all", [])])
def test_what_lies_within_has_no_reason(good):
    assert Bounds().check(good) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"learning_rate": value}, "learning_rate")
        for value in (float("nan"), float("inf"), -1e-3, 0, 1e9, True, "1e-3", None, 1.1e-2)
    ]
    + [({"epochs": value}, "epochs") for value in (0, -1, 21, 2.5, float("nan"), 10**400, True, "3", None)]
    + [({"loss": "none"}, "loss"), ({"loss": []}, "loss")]
    + [({"augmentations": value}, "augmentation") for value in (("basic", "mirror"), "basic", None, [[]])],
)
def test_what_lies_outside_has_a_reason_that_names_it(changed, reason):
    said = Bounds().check(replace(GOOD, **changed))
    assert said is not None and said.startswith(reason) and len(said) < 160


def test_the_bounds_are_the_users():
    assert Bounds(highest_rate=1.0, most_epochs=99).check(replace(GOOD, learning_rate=0.5, epochs=99)) is None
    assert Bounds(losses=("output",)).check(GOOD) == "loss 'all' is not one of output"


@given(a=ANYTHING, b=ANYTHING, c=ANYTHING, d=ANYTHING)
def test_whatever_a_model_writes_is_judged_and_never_crashes(a, b, c, d):
    Bounds().check(Settings(a, b, c, d))
