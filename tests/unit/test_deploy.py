"""What `docker-compose.yml` and `deploy/` name exists, and follows its own rules. No Docker is needed for that."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ruamel.yaml import YAML

from pipeline.cli import COMMANDS, app
from pipeline.config import Settings, environment_variable
from tests.documentation import ROOT, section, tables

COMPOSE, DOCKERFILE = ROOT / "docker-compose.yml", ROOT / "deploy" / "Dockerfile"
CLICKHOUSE = ROOT / "deploy" / "clickhouse" / "footfall.xml"
SETTINGS = {environment_variable(name) for name in Settings.model_fields}
LISTENS = {"worker": "metrics_port", "web": "port"}
"""The setting of the port that a command listens on."""

Service = dict[str, Any]


@cache
def services() -> dict[str, Service]:
    found: dict[str, Service] = YAML(typ="safe").load(COMPOSE)["services"]
    return found


def of_ours() -> dict[str, Service]:
    """The services that run our image."""
    return {name: service for name, service in services().items() if "build" in service}


def instructions(word: str) -> list[str]:
    """What follows this instruction in the Dockerfile, each in one line."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{word}\s+(.*)$", text, re.MULTILINE)


def run(tool: str, *words: str | Path) -> None:
    """A tool of the environment that these tests run in, which has to be content."""
    command = [Path(sys.executable).with_name(tool), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_follows_the_schema_of_the_compose_specification() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_the_dockerfile_passes_its_linter() -> None:
    run("hadolint", DOCKERFILE)


@pytest.mark.parametrize("name", of_ours())
def test_a_service_calls_a_command_that_exists_in_a_way_that_it_understands(name: str) -> None:
    words = services()[name]["command"]
    assert words[0] in COMMANDS
    app.parse_args(words, exit_on_error=False, print_error=False)  # raises what it does not understand


@pytest.mark.parametrize("name", of_ours())
def test_a_service_names_settings_that_exist_with_values_that_they_take(name: str) -> None:
    given = services()[name]["environment"] | image_environment()
    assert set(given) <= SETTINGS
    values = {variable.removeprefix("FOOTFALL_").lower(): text for variable, text in given.items()}
    if values.get("geoip_database"):
        values["geoip_database"] = None  # ${FOOTFALL_GEOIP_DATABASE:-}
    Settings(**values)


def image_environment() -> dict[str, str]:
    """Settings that the image itself makes."""
    pairs = [pair.partition("=") for line in instructions("ENV") for pair in line.split()]
    return {name: value for name, _, value in pairs if name.startswith("FOOTFALL_")}


def test_the_ports_are_those_that_the_commands_listen_on() -> None:
    defaults = {command: str(Settings.model_fields[name].default) for command, name in LISTENS.items()}
    assert set(" ".join(instructions("EXPOSE")).split()) == set(defaults.values())
    for command, port in defaults.items():
        [url] = re.findall(r'"(http://[^"]+)"', services()[command]["healthcheck"]["test"][-1])
        assert url == f"http://127.0.0.1:{port}/readyz"
    assert services()["web"]["ports"] == [f"127.0.0.1:{defaults['web']}:{defaults['web']}"]


def test_the_documentation_has_every_service_with_its_ports_and_limits() -> None:
    [(_, rows)] = [found for found in tables(documented()) if found[0][0] == "service"]
    named = {name.strip("`"): (published.strip("`"), limits) for name, _, published, limits in rows}
    assert named == {
        name: (
            ", ".join(port.rpartition(":")[0] for port in service.get("ports", [])) or "nowhere",
            "{cpus} CPU, {memory}".format_map(service["deploy"]["resources"]["limits"]),
        )
        for name, service in services().items()
    }


def test_the_documentation_names_services_and_secrets_that_exist_and_starts_them_as_the_file_says() -> None:
    named = re.findall(r"docker compose (?:exec|run --rm) (\w+)", documented())
    named += re.findall(r"--scale (\w+)=", documented())
    assert named
    assert set(named) <= set(services())
    profiles = {profile for service in services().values() for profile in service.get("profiles", [])}
    assert set(re.findall(r"--profile (\w+)", documented())) == profiles
    for path in re.findall(r"/run/secrets/(\w+)", documented()):
        assert path in services()["clickhouse"]["secrets"]
    head = COMPOSE.read_text(encoding="utf-8").partition("\nname:")[0]
    for command in re.findall(r"^#   ((?:openssl|docker|FOOTFALL_).*?)(?:  +#.*)?$", head, re.MULTILINE):
        assert command in documented()


def documented() -> str:
    return section(
        (ROOT / "docs/operate.md").read_text(encoding="utf-8"), "Start everything with Docker Compose"
    )


def test_nothing_is_published_to_other_machines() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_broker_and_the_store_are_services_that_listen_there() -> None:
    kafka = services()["kafka"]["environment"]
    advertised = re.findall(r"//([^,]+)", kafka["KAFKA_ADVERTISED_LISTENERS"])
    for service in of_ours().values():
        given = service["environment"]
        assert given["FOOTFALL_BROKER"] in advertised
        assert given["FOOTFALL_CLICKHOUSE"] == "http://clickhouse:8123"  # the port that its image has
        assert given["FOOTFALL_CLICKHOUSE_USER"] == services()["clickhouse"]["environment"]["CLICKHOUSE_USER"]
        assert given["FOOTFALL_CLICKHOUSE_PASSWORD_FILE"] == "/run/secrets/" + service["secrets"][0]
    assert services()["clickhouse"]["secrets"] == services()["worker"]["secrets"]


@pytest.mark.parametrize("name", services())
def test_every_service_is_pinned_bounded_and_restarted_or_done(name: str) -> None:
    service = services()[name]
    assert re.fullmatch(r"[a-z/-]+:\d+[\w.-]*", service["image"])
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["restart"]
    assert service["logging"]["options"]["max-size"]
    assert "healthcheck" in service or name in ("migrate", "demo")


@pytest.mark.parametrize("name", of_ours())
def test_our_services_may_do_nothing_that_they_need_not(name: str) -> None:
    service = services()[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert all(volume.endswith(":ro") for volume in service.get("volumes", []))
    assert instructions("USER")[-1].split(":")[0] not in ("root", "0")


def test_the_worker_has_a_place_to_copy_its_geo_database_to() -> None:
    [mount] = services()["worker"]["tmpfs"]
    assert mount.startswith("/tmp:")  # where Python's tempfile goes unless TMPDIR says otherwise


def test_the_demo_has_a_past_and_a_geo_database_that_the_image_holds(tmp_path: Path) -> None:
    [script] = [line for line in instructions("RUN") if "demo-places.mmdb" in line]
    [path] = re.findall(
        r"FOOTFALL_GEOIP_DATABASE=(\S+) docker compose --profile demo", COMPOSE.read_text("utf-8")
    )
    written = tmp_path / "demo-places.mmdb"
    assert path in script
    exec(script.split('"')[1].replace(path, str(written)))  # noqa: S102 - a line of ours
    assert written.stat().st_size > 0
    assert "--backfill" in services()["demo"]["command"]


def test_our_image_is_of_this_version_and_every_base_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {service["image"] for service in of_ours().values()} == {f"footfall:{project['version']}"}
    for base in instructions("FROM"):
        assert re.match(r"python:\d+\.\d+\.\d+-\S+( AS \w+)?$", base), base


def test_what_the_image_is_made_of_exists_and_is_let_through() -> None:
    sources = [
        word.rstrip("/")
        for line in instructions("COPY")
        if not line.startswith("--from")
        for word in line.split()[:-1]
    ]
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in allowed
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= set(sources)


def test_files_that_are_mounted_exist() -> None:
    mounted = [
        volume.split(":")[0]
        for service in services().values()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
    ]
    assert mounted
    assert all((ROOT / path).exists() for path in mounted)


def test_every_system_log_that_clickhouse_keeps_has_an_end() -> None:
    root = ElementTree.parse(CLICKHOUSE).getroot()  # noqa: S314 - a file of ours
    assert root.tag == "clickhouse"
    logs = [element for element in root if element.tag.endswith("_log")]
    assert {"query_log", "part_log", "trace_log", "text_log"} <= {log.tag for log in logs}
    for log in logs:
        is_removed, ttl = log.get("remove") == "1", log.findtext("ttl")
        assert is_removed or re.fullmatch(r"event_date \+ INTERVAL \d+ DAY DELETE", ttl or ""), log.tag
