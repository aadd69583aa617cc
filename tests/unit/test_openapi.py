from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.web.app import create_app
from pipeline.web.docs import description

SAID = description(create_app(Settings(clickhouse="http://127.0.0.1:1", broker="127.0.0.1:1")))
OPERATIONS = [
    pytest.param(operation, id=f"{method} {path}")
    for path, methods in SAID["paths"].items()
    for method, operation in methods.items()
]


def test_it_is_openapi_3_1() -> None:
    assert SAID["openapi"].startswith("3.1")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_parameter_has_an_example_and_says_what_it_is(operation: dict[str, Any]) -> None:
    for parameter in operation["parameters"]:
        assert parameter.get("example") or parameter["schema"]["examples"], parameter["name"]
        assert parameter["description"], parameter["name"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_swagger_ui_fills_in_is_what_has_to_be_given(operation: dict[str, Any]) -> None:
    """Examples of everything at once would contradict each other: `range` and `from`."""
    for parameter in operation["parameters"]:
        assert ("example" in parameter) == parameter["required"], parameter["name"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_error_is_a_problem_and_has_examples(operation: dict[str, Any]) -> None:
    errors = {status: said for status, said in operation["responses"].items() if status >= "400"}
    assert {"400", "503"} <= errors.keys()
    assert "422" not in errors
    for status, said in errors.items():
        assert list(said["content"]) == ["application/problem+json"]
        examples = said["content"]["application/problem+json"]["examples"]
        assert examples
        for kind, example in examples.items():
            assert example["value"]["type"] == kind
            assert example["value"]["status"] == int(status)
            assert example["value"]["detail"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_path_says_what_it_does_and_what_it_answers(operation: dict[str, Any]) -> None:
    assert operation["description"]
    [good] = [said for status, said in operation["responses"].items() if status < "300"]
    assert good["content"]
