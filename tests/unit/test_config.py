"""Where settings come from, and what is said of those that cannot be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config import Command, Loaded, Settings, environment_variable, flag, load, settings_table
from pipeline.errors import Misconfigured


@pytest.fixture(autouse=True)
def only_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in os.environ:
        if variable.startswith("FOOTFALL_"):
            monkeypatch.delenv(variable)


def loaded(
    flags: Mapping[str, object] | None = None, *, command: Command = "up", config: Path | None = None
) -> Loaded:
    return load(command, flags or {}, config=config)


def problems(
    flags: Mapping[str, object] | None = None, *, command: Command = "up", config: Path | None = None
) -> list[str]:
    with pytest.raises(Misconfigured) as refused:
        loaded(flags, command=command, config=config)
    return str(refused.value).splitlines()


def toml(directory: Path, text: str) -> Path:
    file = directory / "footfall.toml"
    file.write_text(text)
    return file


def test_a_setting_nobody_gives_has_its_default() -> None:
    result = loaded()
    assert result.settings == Settings()
    assert set(result.origins.values()) == {"default"}


def test_flag_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toml(tmp_path, 'port = 1001\nstore_port = 1002\nbroker_port = 1003\ntopic_prefix = "a."\n')
    monkeypatch.setenv("FOOTFALL_PORT", "2001")
    monkeypatch.setenv("FOOTFALL_STORE_PORT", "2002")
    result = loaded({"port": "3001"}, config=file)
    assert (result.settings.port, result.settings.store_port, result.settings.broker_port) == (
        3001,
        2002,
        1003,
    )
    assert result.settings.topic_prefix == "a."
    assert result.origins["port"] == "--port"
    assert result.origins["store_port"] == "FOOTFALL_STORE_PORT"
    assert result.origins["broker_port"] == str(file)
    assert result.origins["host"] == "default"


def test_the_file_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTFALL_CONFIG", str(toml(tmp_path, "port = 1001")))
    assert loaded().settings.port == 1001
    (tmp_path / "other.toml").write_text("port = 1002")
    assert loaded(config=tmp_path / "other.toml").settings.port == 1002


def test_every_problem_is_reported_at_once_naming_flag_and_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toml(tmp_path, 'prot = 1\nlog_format = "xml"\n')
    monkeypatch.setenv("FOOTFALL_STORE_PORT", "many")
    lines = problems(
        {"port": "99999", "broker": "nowhere", "clickhouse": "ftp://a", "geoip_database": "/no/such.mmdb"},
        config=file,
    )
    assert len(lines) == 7
    text = "\n".join(lines)
    assert f"{file} has no setting `prot` (did you mean `port`?)" in text
    assert "--log-format (FOOTFALL_LOG_FORMAT) should be 'auto', 'console' or 'json'; it is 'xml'" in text
    assert "it is 'many', from FOOTFALL_STORE_PORT" in text
    assert "--port (FOOTFALL_PORT) should be less than or equal to 65535; it is '99999', from --port" in text
    assert "--broker (FOOTFALL_BROKER) should be `embedded`, `kafka` or host:port" in text
    assert "--clickhouse (FOOTFALL_CLICKHOUSE) should be `embedded` or a URL" in text
    assert "--geoip-database (FOOTFALL_GEOIP_DATABASE) names a file that cannot be read" in text


@pytest.mark.parametrize("text", ["port = ", "\xff"])
def test_a_file_that_is_not_toml_is_one_problem_beside_the_others(tmp_path: Path, text: str) -> None:
    file = tmp_path / "footfall.toml"
    file.write_bytes(text.encode("latin-1"))
    lines = problems({"port": "x"}, config=file)
    assert len(lines) == 2
    assert lines[0].startswith("--config (FOOTFALL_CONFIG)")
    assert str(file) in lines[0] or "utf-8" in lines[0]


def test_a_file_that_does_not_exist_is_a_problem(tmp_path: Path) -> None:
    (line,) = problems(config=tmp_path / "none.toml")
    assert "none.toml" in line


@pytest.mark.parametrize(
    "broker", ["k1:9092", "k1:9092,k2:9093", "10.0.0.1:1", "[::1]:9092", "embedded", "a-b.c_d:65535"]
)
def test_a_broker_is_embedded_or_a_list_of_addresses(broker: str) -> None:
    assert loaded({"broker": broker}).settings.broker == broker


@pytest.mark.parametrize(
    "broker",
    ["", "k1", "k1:", "k1:0", "k1:65536", "k1:9092,", "k1:9092, k2:9092", "kafka://k1:9092", "::1:9"],
)
def test_any_other_broker_is_refused(broker: str) -> None:
    (line,) = problems({"broker": broker})
    assert line.startswith("--broker (FOOTFALL_BROKER)")


@pytest.mark.parametrize("url", ["http://c", "http://c:8123", "https://c:8443/", "http://[::1]:8123"])
def test_a_store_is_embedded_or_a_url(url: str) -> None:
    assert loaded({"clickhouse": url}).settings.store_address().url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "c:8123",
        "tcp://c:9000",
        "http://",
        "http://c:x",
        "http://c:99999",
        "http://c:0",
        "http://c/db",
        "http://u:p@c:8123",
        "http://c:8123?user=u",
    ],
)
def test_any_other_store_is_refused(url: str) -> None:
    (line,) = problems({"clickhouse": url})
    assert line.startswith("--clickhouse (FOOTFALL_CLICKHOUSE)")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("broker", "bob:hunter2@h:9092", "'***@h:9092'"),
        ("broker", "k1:9092,bob:hunt,er2@h:9092", "'***@h:9092'"),
        ("clickhouse", "http://ck:hunter2@h:8123", "'http://***@h:8123'"),
        ("clickhouse", "http://ck:hunter2/@:@h:8123", "'http://***@h:8123'"),
        ("clickhouse", ["http://ck:hunter2@h:8123"], "['http://***@h:8123']"),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(name: str, value: object, shown: str) -> None:
    (line,) = problems({name: value})
    assert "hunt" not in line
    assert f"it is {shown}, from" in line


@pytest.mark.parametrize("command", ["worker", "web"])
def test_only_up_has_a_broker_and_a_store_of_its_own(command: Command) -> None:
    lines = problems(command=command)
    assert [line.split()[0] for line in lines] == ["--broker", "--clickhouse"]
    assert all("`embedded` is for `footfall up`" in line for line in lines)
    loaded({"broker": "k:1", "clickhouse": "http://c"}, command=command)


def test_a_command_ignores_what_it_does_not_use() -> None:
    useless = {"geoip_database": "/no/such.mmdb", "broker_user": "u", "broker": "kafka"}
    loaded(useless, command="store")
    loaded(useless | {"clickhouse": "http://c"}, command="migrate")
    (line,) = problems(command="migrate")
    assert line.startswith("--clickhouse")


@pytest.mark.parametrize("command", ["replay", "simulate", "audit", "dead-letters replay"])
def test_without_being_told_where_commands_are_about_what_up_runs_here(command: Command) -> None:
    settings = loaded(command=command).settings
    assert settings.broker_connection().bootstrap == "127.0.0.1:19092"
    assert settings.store_address().url == "http://127.0.0.1:18123"


def test_only_up_runs_a_kafka_itself() -> None:
    assert loaded({"broker": "kafka"}).settings.broker_connection().bootstrap == "127.0.0.1:19092"
    (line,) = problems({"broker": "kafka", "clickhouse": "http://c"}, command="worker")
    assert line.startswith("--broker")
    assert "`kafka` is for `footfall up`" in line


def test_sasl_needs_user_and_password_file(tmp_path: Path) -> None:
    lines = problems({"broker": "k:1", "broker_sasl_mechanism": "PLAIN"})
    assert [line.split()[0] for line in lines] == ["--broker-user", "--broker-password-file"]
    (line,) = problems({"broker": "k:1", "broker_user": "u"})
    assert line.startswith("--broker-sasl-mechanism")


def test_a_ca_file_without_tls_is_refused(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("x")
    (line,) = problems({"broker": "k:1", "broker_ca_file": str(ca)})
    assert line.startswith("--broker-tls")
    (line,) = problems({"clickhouse": "http://c", "clickhouse_ca_file": str(ca)})
    assert line.startswith("--clickhouse-ca-file")


def test_a_password_file_has_to_hold_something(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    (line,) = problems({"clickhouse": "http://c", "clickhouse_password_file": str(empty)})
    assert "names an empty file" in line


def test_ports_of_up_have_to_differ_unless_any_free_one_will_do() -> None:
    (line,) = problems({"store_port": "8321"})
    assert line.startswith("--store-port")
    assert "--port" in line
    loaded({"port": 0, "metrics_port": 0})
    loaded({"store_port": "8321", "clickhouse": "http://c"})


@pytest.mark.parametrize("prefix", ["a b", "ü", "a/", "x" * 201])
def test_a_topic_prefix_is_what_kafka_allows(prefix: str) -> None:
    (line,) = problems({"topic_prefix": prefix})
    assert line.startswith("--topic-prefix")


def test_a_misspelled_variable_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTFALL_STORE_PROT", "1")
    (warning,) = loaded().warnings
    assert "FOOTFALL_STORE_PROT" in warning
    assert "did you mean FOOTFALL_STORE_PORT?" in warning


def test_an_empty_variable_means_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTFALL_GEOIP_DATABASE", "")
    assert loaded().settings.geoip_database is None


def test_connections_carry_the_passwords_of_their_files(tmp_path: Path) -> None:
    for name in ("broker", "store"):
        (tmp_path / name).write_text(f"{name} secret\n")
    settings = loaded(
        {
            "broker": "k:1",
            "broker_sasl_mechanism": "SCRAM-SHA-512",
            "broker_user": "u",
            "broker_password_file": str(tmp_path / "broker"),
            "clickhouse": "http://c",
            "clickhouse_user": "v",
            "clickhouse_password_file": str(tmp_path / "store"),
        }
    ).settings
    broker, store = settings.broker_connection(), settings.store_address()
    assert (broker.bootstrap, broker.user, broker.password) == ("k:1", "u", "broker secret")
    assert (store.url, store.user, store.password) == ("http://c", "v", "store secret")


def test_embedded_means_the_ports_of_up() -> None:
    settings = loaded({"broker_port": 5, "store_port": 6}).settings
    assert settings.broker_connection().bootstrap == "127.0.0.1:5"
    assert settings.store_address().url == "http://127.0.0.1:6"


def test_another_process_gets_the_same_settings_through_its_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(port=1, data_dir=tmp_path, broker="k:1", broker_tls=True, flush_interval_seconds=0.25)
    for variable, value in settings.environment().items():
        monkeypatch.setenv(variable, value)
    assert loaded().settings == settings


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().__setattr__("port", 1)


def test_every_setting_has_a_help_and_a_line_in_the_table() -> None:
    table = settings_table()
    for name, field in Settings.model_fields.items():
        assert field.description
        assert field.description.endswith(".")
        assert table.count(f"| `{flag(name)}` | `{environment_variable(name)}` |") == 1
    assert "| `--port` | `FOOTFALL_PORT` | `8321` |" in table
