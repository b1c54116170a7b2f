"""Configurations: what is refused, and that what is written reads back the same."""

import pytest

from antaeus import config
from antaeus.errors import UserError
from antaeus.recipes import RECIPES
from antaeus.recipes.base import Recipe


def test_round_trip(tmp_path):
    run, recipe = config.configure("ttrl", {"rounds": "7", "lr": "1e-5", "tasks": 'we"ird\\ tâsks\x7f.jsonl', "seed": 3})
    (tmp_path / "c.toml").write_text(config.write(run, recipe), encoding="utf-8")
    assert config.configure("", {}, tmp_path / "c.toml") == (run, recipe)
    assert config.configure("", {"rounds": 9}, tmp_path / "c.toml")[1].rounds == 9


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"round": 3}, "unknown key 'round' for recipe ttrl (did you mean 'rounds'?)"),
        ({"rounds": "x"}, "rounds='x': must be a whole number"),
        ({"rounds": 0}, "rounds=0: must be at least 1"),
        ({"rounds": 2.5}, "must be a whole number"),
        ({"rounds": True}, "must be a whole number"),
        ({"lr": "nan"}, "lr='nan': must be a number"),
        ({"lr": "1e999"}, "must be a number"),
        ({"lr": -1}, "lr=-1.0: must be between 0.0 and 1.0"),
        ({"samples": 1}, "samples=1: must be at least 2"),
        ({"advantage": "grp"}, "must be one of grpo, rloo, dr_grpo (did you mean 'grpo'?)"),
        ({"control": "randm"}, "did you mean 'random'?"),
        ({"seed": -1}, "seed=-1: must be between"),
        ({"model": 5}, "model=5: must be text"),
        ({"votes": 4, "samples": 16}, "votes=4 is below samples=16"),
    ],
)
def test_bad_values_are_refused_in_one_line(given, says):
    with pytest.raises(UserError) as refused:
        config.configure("ttrl", given)
    assert says in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rounds = ", "cannot be read as TOML"),
        ("recipe = 'ttrl'\n[engine]\nx = 1", "unknown table [engine]"),
        ("recipe = 'nosuch'", "unknown recipe 'nosuch'"),
        ("", "no recipe given"),
        ("recipe = 'ttrl'\n[settings]\nlearning_rate = 1", "unknown key 'learning_rate'"),
    ],
)
def test_bad_files(tmp_path, text, says):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UserError) as refused:
        config.configure("", {}, tmp_path / "c.toml")
    assert says in " ".join(str(refused.value).split())


def test_pairs():
    assert config.parse_pairs(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    for bad in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(UserError):
            config.parse_pairs(bad)


def test_a_recipe_has_few_fields_and_says_what_they_are():
    import dataclasses

    for recipe in RECIPES.values():
        fields = dataclasses.fields(recipe)
        own = {f.name for f in fields} - {f.name for f in dataclasses.fields(Recipe)}
        most = 6 if recipe.name in ("seal", "continual") else 4  # they have a second training inside them
        assert min(len(own), len(fields) - 11) <= most and all(f.metadata["about"] for f in fields)
        assert recipe.__doc__ and "arXiv" in recipe.__doc__
