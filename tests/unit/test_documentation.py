"""What the documentation says equals what the code says, and every place it points to exists."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect
from prometheus_client.metrics import MetricWrapperBase

from pipeline import dead_letter, metrics
from pipeline.cli import COMMANDS, app
from pipeline.config import CONFIG_VARIABLE, Settings, environment_variable, settings_table
from pipeline.dead_letters import COLUMNS, Outlook
from pipeline.web import metrics as web_metrics
from pipeline.web.app import create_app
from schemas.bot_feedback import BotFeedback
from schemas.bot_request import BotRequest
from schemas.dead_letter import DeadLetter, Reason
from schemas.token_usage import TokenUsage
from schemas.topics import Topic
from tests.documentation import ROOT, blocks, pages, section, tables
from tests.faults.kinds import KINDS

EVENTS = {
    Topic.BOT_REQUESTS: BotRequest,
    Topic.TOKEN_USAGES: TokenUsage,
    Topic.BOT_FEEDBACK: BotFeedback,
}
API = "/api/v1"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def table(page: str, heading: str, *, with_column: str) -> list[list[str]]:
    """The rows of the one table under a heading whose first column is headed so."""
    [found] = [rows for head, rows in tables(section(read(page), heading)) if head[0] == with_column]
    return found


def code_words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# --- README


def test_the_readme_lists_every_setting_with_its_default() -> None:
    assert settings_table().strip() in read("README.md")


def test_the_readme_lists_every_command() -> None:
    rows = table("README.md", "Commands", with_column="command")
    assert rows == [[f"`footfall {name}`", text] for name, text in COMMANDS.items()]


# --- events


@pytest.mark.parametrize("topic", Topic)
def test_the_tables_of_fields_are_those_of_the_events(topic: Topic) -> None:
    rows = table("docs/events.md", f"`{topic}`", with_column="field")
    documented = [(code_words(field)[0], needed, type_) for field, needed, type_, _ in rows]
    info = inspect.type_info(EVENTS[topic])
    assert isinstance(info, inspect.StructType)
    assert documented == [
        (field.name, "required" if field.required else "optional", described(field.type))
        for field in info.fields
    ]


def described(type_: inspect.Type) -> str:
    """A field's type in the words of the documentation."""
    if isinstance(type_, inspect.UnionType):
        kinds = [one for one in type_.types if not isinstance(one, inspect.NoneType)]
        if len(kinds) == 2:
            assert {type(kind) for kind in kinds} == {inspect.StrType, inspect.IntType}
            return "time"
        [type_] = kinds
    match type_:
        case inspect.LiteralType(values=values):
            *others, last = [f"`{value}`" for value in values]
            return f"{', '.join(others)} or {last}"
        case inspect.StrType(min_length=None, max_length=None):
            return "string"
        case inspect.StrType(min_length=None, max_length=most):
            return f"string, up to {most} characters"
        case inspect.StrType(min_length=least, max_length=most):
            return f"string, {least} to {most} characters"
        case inspect.IntType(ge=least, le=most):
            return f"integer, {least} to {most}"
    raise AssertionError(f"no words for {type_}")


def test_the_reasons_are_those_of_dead_letters() -> None:
    rows = table("docs/events.md", "Malformed events", with_column="reason")
    assert [code_words(reason)[0] for reason, _ in rows] == [reason.value for reason in Reason]


def test_the_headers_are_those_of_dead_letters() -> None:
    letter = DeadLetter(
        topic="", epoch="", partition=0, offset=0, record_ms=0, reason=Reason.EMPTY, field="", key=None,
        value=b"", value_bytes=0, value_sha256="",
    )  # fmt: skip
    rows = table("docs/events.md", "Malformed events", with_column="header")
    documented = {name for names, _ in rows for name in code_words(names)}
    assert documented == {name for name, _ in dead_letter.headers(letter)}


# --- dead letters


def test_the_table_of_what_would_become_of_a_dead_letter_is_that_of_the_code() -> None:
    rows = table("docs/dead-letters.md", "List them", with_column="now")
    assert [code_words(outlook)[0] for outlook, _ in rows] == [outlook.value for outlook in Outlook]


def test_the_columns_of_the_example_of_a_list_are_those_of_a_list() -> None:
    [example] = [block.text for block in blocks(ROOT / "docs/dead-letters.md") if block.language == "text"]
    assert example.splitlines()[0].split() == list(COLUMNS)


# --- operating


@pytest.mark.parametrize(("process", "module"), [("Of the worker", metrics), ("Of `web`", web_metrics)])
def test_the_tables_of_metrics_are_those_in_the_code(process: str, module: Any) -> None:
    text = section(read("docs/operate.md"), "Metrics").split(f"\n{process}:")[1]
    _, rows = tables(text)[0]
    documented = [
        (code_words(name)[0], kind, code_words(labels), help_) for name, kind, labels, help_ in rows
    ]
    assert documented == list(exposed(module))


def exposed(module: Any) -> Iterator[tuple[str, str, list[str], str]]:
    """Name as Prometheus sees it, type, labels and help of the metrics that a module defines."""
    for value in vars(module).values():
        if isinstance(value, MetricWrapperBase):
            [metric] = value.describe()
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            yield name, metric.type, list(value._labelnames), metric.documentation


def test_metrics_are_defined_nowhere_else() -> None:
    elsewhere = [
        str(file.relative_to(ROOT))
        for package in ("agents", "clickhouse", "pipeline", "schemas")
        for file in (ROOT / package).rglob("*.py")
        if file.name != "metrics.py"
        and re.search(
            r"prometheus_client import .*\b(Counter|Gauge|Histogram|Summary|Info)\b", file.read_text()
        )
    ]
    assert elsewhere == []


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    known = {name for module in (metrics, web_metrics) for name, *_ in exposed(module)}
    named = set(re.findall(r"\bfootfall_(?!v\d)[a-z_]+\b", page.read_text()))
    assert named <= known


# --- reading


@cache
def openapi() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def test_the_table_of_paths_is_that_of_the_api_with_all_parameters() -> None:
    groups = {
        name: code_words(names) for name, names in table("docs/read.md", "Paths", with_column="parameters")
    }
    documented = {
        path.strip("`"): {name for part in cell.split(", ") for name in groups.get(part, code_words(part))}
        for path, cell, _ in table("docs/read.md", "Paths", with_column="path")
    }
    assert documented == {
        f"{method.upper()} {path.removeprefix(API)}": {
            parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"
        }
        for path, operations in openapi()["paths"].items()
        for method, operation in operations.items()
    }


def test_the_sets_of_values_that_parameters_have_are_named() -> None:
    text = section(read("docs/read.md"), "HTTP")
    for path in openapi()["paths"].values():
        for parameter in path.get("get", {}).get("parameters", ()):
            schema = parameter["schema"]
            for choice in (schema, *schema.get("anyOf", ())):
                for value in choice.get("enum", ()):
                    assert f"`{value}`" in text, f"{parameter['name']}={value}"


# --- guarantees


def test_every_test_that_the_documentation_names_exists() -> None:
    for page in pages():
        for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text()):
            assert (ROOT / file).is_file(), file
            if name:
                assert name in functions(file), f"{file}::{name}"


@pytest.mark.parametrize("readers", ["bot authors", "operators", "readers"])
def test_every_guarantee_has_its_reason_and_a_test_that_shows_it(readers: str) -> None:
    [(_, rows)] = tables(section(read("docs/guarantees.md"), f"For {readers}"))
    for guarantee, because, shown_by in rows:
        assert because, guarantee
        assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`( `tests/[\w/]+\.py::test_\w+`)*", shown_by), (
            guarantee
        )


def functions(file: str) -> set[str]:
    tree = ast.parse(read(file))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


# --- faults


def test_the_table_of_faults_is_that_of_the_fault_suite() -> None:
    rows = re.findall(r"^\| ([^|`]+) \|", read("docs/faults.md").partition("<!--")[0], re.MULTILINE)
    assert set(rows) - {"kind"} == set(KINDS)


# --- all pages


@pytest.mark.parametrize("page", pages(), ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(file: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def flags_of(command: str) -> set[str]:
    found = app
    for word in command.split():
        found = found[word]
    return {name for argument in found.assemble_argument_collection() for name in argument.names} | {"--help"}


@pytest.mark.parametrize("page", pages(), ids=str)
def test_commands_and_flags_that_a_page_shows_exist(page: Path) -> None:
    text = page.read_text()
    shown = [block.text for block in blocks(page) if block.language == "sh"]
    shown += re.findall(r"`(footfall [^`]+)`", text)
    for words in re.findall(r"(?:^| )footfall ([a-z].*)", "\n".join(shown), re.MULTILINE):
        [command] = [one for one in COMMANDS if re.match(rf"{one}(?![\w-])", words)]
        rest = words.removeprefix(command)
        assert set(re.findall(r"--[a-z-]+", rest.partition("#")[0])) <= flags_of(command), rest
    known = set().union(*map(flags_of, COMMANDS))
    assert set(re.findall(r"`(--[a-z-]+)`", text)) <= known


@pytest.mark.parametrize("page", pages(), ids=str)
def test_variables_and_settings_in_files_that_a_page_shows_exist(page: Path) -> None:
    known = {environment_variable(name) for name in Settings.model_fields} | {CONFIG_VARIABLE}
    assert set(re.findall(r"\bFOOTFALL_[A-Z_]+\b", page.read_text())) <= known
    for block in blocks(page):
        if block.language == "toml":
            Settings(**tomllib.loads(block.text))
        if block.language == "json":
            msgspec.json.decode(block.text)


@pytest.mark.parametrize("page", pages(), ids=str)
def test_make_targets_that_a_page_shows_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)) <= targets


EXECUTED = ("sh", "sql", "python", "javascript")
"""tests/integration/test_documentation_examples.py runs blocks of these languages."""
READ = ("json", "toml", "text")


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_block_is_executed_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        assert block.language in EXECUTED + READ, f"{page.name}:{block.line}"


def test_no_example_asks_for_a_newer_curl_than_old_systems_have() -> None:
    texts = [block.text for page in pages() for block in blocks(page)] + [app.help]
    commands = [command for text in texts for command in re.findall(r"\bcurl (?:.*\\\n)*.*", text)]
    assert commands
    assert [one for one in commands if "--json" in one or "--fail-with-body" in one] == []  # 7.82, 7.76


def test_pages_begin_with_what_their_reader_wants() -> None:
    def opening(page: str) -> str:
        return read(page).split("\n\n")[1]

    wants: Sequence[tuple[str, str]] = (
        ("docs/start.md", "You want to see it work"),
        ("docs/events.md", "You have a bot, and you want"),
        ("docs/operate.md", "You want to run Footfall and keep it running"),
        ("docs/read.md", "You want Footfall's numbers"),
        ("docs/dead-letters.md", "You want to know"),
        ("docs/guarantees.md", "You want to know"),
        ("docs/how-it-works.md", "You want to know"),
    )
    assert [page for page, want in wants if not opening(page).startswith(want)] == []
