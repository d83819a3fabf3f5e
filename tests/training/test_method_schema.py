"""The JSON Schema of method.yaml: published as the reader has it, and neither says more than the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainenv.training.method import STAGES
from trainenv.training.method_file import SCHEMA, read_all, schema
from trainenv.training.parameters import FORMATS, TYPES
from trainenv.training.passing import STYLES

PUBLISHED = Path(__file__).parents[2] / "docs" / SCHEMA


def test_it_is_a_schema_and_published_as_it_is() -> None:
    jsonschema.Draft7Validator.check_schema(schema())
    assert json.loads(PUBLISHED.read_text()) == schema()


def test_its_choices_are_the_readers() -> None:
    properties, definitions = schema()["properties"], schema()["definitions"]
    assert tuple(properties["stages"]["properties"]) == STAGES
    assert properties["pass_parameters"]["enum"] == [*STYLES, None]
    assert definitions["parameter"]["properties"]["type"]["enum"] == [*TYPES, None]
    assert definitions["parameter"]["properties"]["format"]["enum"] == [*FORMATS, None]


SIMPLE: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 3, 1.5, "", "text", "train.py", "../train.py", "2h", "8 GB", "1h x", [], {}]
)
NAMES = st.sampled_from(["n", "learning-rate", "3x", "A_B"])
PARAMETER_WORDS = tuple(schema()["definitions"]["parameter"]["properties"])
STAGE_WORDS = tuple(schema()["definitions"]["stage"]["properties"])


def some(words: tuple[str, ...], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from([*words, "unknown"]), values, max_size=3)


VALUES = st.one_of(
    SIMPLE,
    st.sampled_from([*STYLES, *TYPES, *FORMATS, "loss (?P<loss>.*)", ["(?P<loss>.*)"], ["a", "b"], ["a", 1], [[]]]),
)
INNER = st.fixed_dictionaries(
    {},
    optional={
        "parameters": st.dictionaries(NAMES, some(PARAMETER_WORDS, VALUES), max_size=2),
        "stages": st.dictionaries(st.sampled_from([*STAGES, "test"]), some(STAGE_WORDS, VALUES), max_size=2),
        "resources": some(tuple(schema()["properties"]["resources"]["properties"]), SIMPLE),
        "environment": st.dictionaries(NAMES, SIMPLE, max_size=2),
    },
)

ONLY_THE_READER = (
    ("name", "the folder is called"),
    ("conda_env", "can't name"),
    ("format", "it is for a parameter"),
    ("switch", "it is for a parameter"),
    ("gpu_memory", "each of the GPUs"),
    ("file", "given in stages already"),
    ("pass_parameters", "variable"),
)
"""What the reader refuses beyond the schema: it needs to know of other words, or of the folder."""


@settings(max_examples=150)
@given(some(tuple(schema()["properties"]), VALUES), INNER)
def test_reader_and_schema_refuse_the_same(
    tmp_path_factory: pytest.TempPathFactory, top: dict[str, Any], inner: dict[str, Any]
) -> None:
    document = {**top, **inner}
    folder = tmp_path_factory.getbasetemp() / "schema" / "probe"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "method.yaml").write_text(json.dumps(document))  # JSON is YAML.
    _, mistakes, _ = read_all(folder)
    told = [str(mistake) for mistake in mistakes]
    if any(f"{word}: " in line and why in line for line in told for word, why in ONLY_THE_READER):
        return
    assert jsonschema.Draft7Validator(schema()).is_valid(document) == (not told), told
