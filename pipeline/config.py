"""Every setting: name, default, help. Read once, in one place; every problem is reported at once.

`--store-port` = `FOOTFALL_STORE_PORT` = `store_port` in the TOML file given by `--config`; flag beats
environment beats file.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pipeline.errors import Misconfigured

if TYPE_CHECKING:
    from clickhouse.client import StoreAddress
    from pipeline.topics import BrokerConnection

ENVIRONMENT_PREFIX: Final = "FOOTFALL_"
CONFIG_VARIABLE: Final = "FOOTFALL_CONFIG"
"""Stands for `--config`, which cannot be a setting: it says where settings are."""

Letters = Literal["dead-letters list", "dead-letters show", "dead-letters replay"]
Command = Literal["up", "worker", "web", "store", "migrate", "replay", "simulate", "audit", Letters, "config"]

_EMBEDDED_HOST: Final = "127.0.0.1"


def _is_broker(value: str) -> str:
    if value in ("embedded", "kafka"):
        return value
    if "@" in value:
        raise ValueError("should name no user: give --broker-user and --broker-password-file")
    for address in value.split(","):
        match = re.fullmatch(r"(?:[^\s:\[\]/]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", address)
        if match is None or not 1 <= int(match[1]) <= 65535:
            raise ValueError(f"should be `embedded`, `kafka` or host:port[,host:port], but has {address!r}")
    return value


def _is_clickhouse(value: str) -> str:
    if value == "embedded":
        return value
    if "@" in value:
        raise ValueError("should name no user: give --clickhouse-user and --clickhouse-password-file")
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("should be `embedded` or a URL such as http://host:8123")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("should end after the port: only http[s]://host:port is used")
    if parts.port == 0:  # urlsplit itself refuses one that is no number or above 65535
        raise ValueError("should have a port from 1 to 65535")
    return value.rstrip("/")


def _is_topic_prefix(value: str) -> str:
    # Kafka's own rule for topic names; the longest topic of ours still has to fit into 249.
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,200}", value):
        raise ValueError("should be at most 200 letters, digits, dots, dashes and underscores")
    return value


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


OptionalFile = Annotated[Path | None, BeforeValidator(_empty_is_none)]


class Settings(BaseSettings):
    """What a command may be told. A command ignores what it does not use.

    Made by hand it takes its arguments and the defaults; `load` is what reads flags, environment and file.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid")

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address that the page and the API, and the worker's metrics, listen on.",
    )
    port: int = Field(
        default=8321, ge=0, le=65535, description="Port of the page and the API; 0: any free one."
    )
    data_dir: Path = Field(
        default=Path("footfall-data"), description="Where `up` and `store` keep their data."
    )
    broker: Annotated[str, AfterValidator(_is_broker)] = Field(
        default="embedded", description="`embedded`, `kafka` (both `up` only) or host:port[,host:port]."
    )
    broker_port: int = Field(
        default=19092, ge=1, le=65535, description="Port of the broker that `up` embeds."
    )
    broker_memory_limit_mib: int = Field(
        default=512,
        ge=32,
        description="Memory at which `up` replaces the packaged broker, which keeps all it took: MiB, at least 32.",
    )
    clickhouse: Annotated[str, AfterValidator(_is_clickhouse)] = Field(
        default="embedded", description="`embedded` (`up` only) or a URL such as http://host:8123."
    )
    store_port: int = Field(
        default=18123, ge=1, le=65535, description="Port of the store that `up` and `store` embed."
    )
    metrics_port: int = Field(
        default=8322, ge=0, le=65535, description="The worker's /livez, /readyz, /metrics; 0: any free one."
    )
    geoip_database: OptionalFile = Field(
        default=None, description="City-schema MMDB file; a replaced file is used without a restart."
    )
    topic_prefix: Annotated[str, AfterValidator(_is_topic_prefix)] = Field(
        default="", description="Put before every topic's name."
    )
    consumer_group: str = Field(
        default="footfall", min_length=1, max_length=255, description="Kafka consumer group of the workers."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: console on a terminal, else JSON."
    )

    broker_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: no SASL."
    )
    broker_user: str = Field(default="", description="SASL user.")
    broker_password_file: OptionalFile = Field(default=None, description="File that holds the SASL password.")
    broker_tls: bool = Field(default=False, description="Speak TLS to the broker.")
    broker_ca_file: OptionalFile = Field(
        default=None, description="PEM bundle for the broker's certificate; none: the system's."
    )
    broker_session_timeout_seconds: float = Field(
        default=6.0, ge=1, le=300, description="A worker silent for this long loses its partitions to others."
    )
    broker_rebalance_timeout_seconds: float = Field(
        default=10.0,
        ge=0.1,
        le=300,
        description="How long a rebalance waits for workers that are still flushing.",
    )
    clickhouse_user: str = Field(default="default", min_length=1, description="ClickHouse user.")
    clickhouse_password_file: OptionalFile = Field(
        default=None, description="File that holds ClickHouse's password."
    )
    clickhouse_ca_file: OptionalFile = Field(
        default=None, description="PEM bundle for ClickHouse's certificate; none: the system's."
    )

    collector_closed_file: OptionalFile = Field(
        default=None,
        description="While this file exists, posted events are refused with 503 and the text in it.",
    )
    flush_interval_seconds: float = Field(
        default=0.5, gt=0, le=60, description="How long a worker collects records before it writes them."
    )
    flush_max_records: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Most records of one write; with half as many a worker does not wait for more.",
    )
    seal_interval_seconds: float = Field(
        default=2.0, gt=0, le=60, description="Pause between the sealer's passes."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments alone: `load` merges the sources itself, to know where each value came from."""
        return (init_settings,)

    @property
    def runs_broker(self) -> bool:
        """Whether the broker is one that `up` runs itself."""
        return self.broker in ("embedded", "kafka")

    def broker_connection(self) -> BrokerConnection:
        """Where the broker is and how to log in; for `embedded` and `kafka` the one that `up` runs."""
        from pipeline.topics import BrokerConnection

        if self.runs_broker:
            return BrokerConnection(bootstrap=f"{_EMBEDDED_HOST}:{self.broker_port}")
        return BrokerConnection(
            bootstrap=self.broker,
            tls=self.broker_tls,
            ca_file=self.broker_ca_file,
            sasl_mechanism=self.broker_sasl_mechanism,
            user=self.broker_user,
            password=_password(self.broker_password_file),
        )

    def store_address(self) -> StoreAddress:
        """Where the store is and how to log in; for `embedded` the one that `up` runs."""
        from clickhouse.client import StoreAddress

        if self.clickhouse == "embedded":
            return StoreAddress(url=f"http://{_EMBEDDED_HOST}:{self.store_port}")
        return StoreAddress(
            url=self.clickhouse,
            user=self.clickhouse_user,
            password=_password(self.clickhouse_password_file),
            ca_file=None if self.clickhouse_ca_file is None else str(self.clickhouse_ca_file),
        )

    def environment(self) -> dict[str, str]:
        """The variables that give another process these very settings."""
        values = self.model_dump(mode="json")
        return {
            environment_variable(name): "" if value is None else str(value) for name, value in values.items()
        }


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Settings, and what there is to say about them."""

    settings: Settings
    origins: Mapping[str, str]
    """Of each setting: `--port`, `FOOTFALL_PORT`, the file's path, or `default`."""
    warnings: tuple[str, ...]
    """What looks like a mistake but harms nothing."""


def flag(name: str) -> str:
    """The setting as the command line knows it."""
    return "--" + name.replace("_", "-")


def environment_variable(name: str) -> str:
    """The setting as the environment knows it."""
    return ENVIRONMENT_PREFIX + name.upper()


def load(command: Command, flags: Mapping[str, object], *, config: Path | None = None) -> Loaded:
    """Settings of this command from flags, the environment and the TOML file, in that order of precedence.

    `flags` holds what the command line gave and nothing else. What `command` does not use has to be
    well-formed, but need not make sense.

    Raises Misconfigured with one line per problem: all of them.
    """
    problems: list[str] = []
    if config is None and os.environ.get(CONFIG_VARIABLE):
        config = Path(os.environ[CONFIG_VARIABLE])
    layers = [
        (str(config), _read(config, problems)),
        ("environment", EnvSettingsSource(Settings)()),
        ("flag", dict(flags)),
    ]
    origins: dict[str, str] = {}
    values: dict[str, Any] = {}
    for origin, layer in layers:
        for name, value in layer.items():
            values[name] = value
            names = {"environment": environment_variable(name), "flag": flag(name)}
            origins[name] = names.get(origin, origin)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        refused = {str(one["loc"][0]): one for one in error.errors()}
        problems += [_problem(name, one, origins[name]) for name, one in refused.items()]
        # With defaults in place of what was refused, the rest can be checked all the same.
        settings = Settings(**{name: value for name, value in values.items() if name not in refused})
    else:
        refused = {}
    problems += [
        f"{_both_names(name)} {problem}"
        for name, problem in _contradictions(settings, command)
        if name not in refused
    ]
    if problems:
        raise Misconfigured("\n".join(problems))
    return Loaded(
        settings=settings,
        origins={name: origins.get(name, "default") for name in Settings.model_fields},
        warnings=tuple(_misspelled_variables()),
    )


def settings_table() -> str:
    """All settings as a Markdown table, for the README."""
    lines = ["| setting | environment | default | |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "none" if default is None else "empty" if default == "" else f"`{default_text(name)}`"
        lines.append(f"| `{flag(name)}` | `{environment_variable(name)}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


def default_text(name: str) -> str:
    """The default as one would write it."""
    default = Settings.model_fields[name].default
    return {None: "none", False: "false"}.get(default, str(default))


def _read(config: Path | None, problems: list[str]) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"--config ({CONFIG_VARIABLE}) names a file that cannot be read: {error}")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"--config ({CONFIG_VARIABLE}): {config} is not TOML: {error}")
    return {}


def _both_names(name: str) -> str:
    return f"{flag(name)} ({environment_variable(name)})"


def _problem(name: str, error: Mapping[str, Any], origin: str) -> str:
    if error["type"] == "extra_forbidden":
        return f"{origin} has no setting `{name}`{_suggestion(name)}; `footfall config` lists them all"
    reason = error.get("ctx", {}).get("error") or error["msg"]
    reason = str(reason).replace("Input should", "should")
    return f"{_both_names(name)} {reason}; it is {_without_user(repr(error['input']))}, from {origin}"


def _without_user(shown: str) -> str:
    """The same without what stands before an @: it may be a password, and this may be logged."""
    return re.sub(r"""(['"](?:\w+://)?).*@""", r"\1***@", shown, flags=re.DOTALL)


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), Settings.model_fields, 1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def _misspelled_variables() -> Iterator[str]:
    known = {environment_variable(name) for name in Settings.model_fields} | {CONFIG_VARIABLE}
    for variable in sorted(os.environ):
        if variable.upper().startswith(ENVIRONMENT_PREFIX) and variable.upper() not in known:
            close = difflib.get_close_matches(variable.upper(), known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield f"the environment variable {variable} is no setting and changes nothing{hint}"


# --- what each command needs of its settings -------------------------------------------------------------


_LETTERS: Final = frozenset(get_args(Letters))
_USE_BROKER: Final = frozenset({"up", "worker", "web", "replay", "simulate", "audit", "dead-letters replay"})
_USE_STORE: Final = frozenset({"up", "worker", "web", "migrate", "audit"}) | _LETTERS
_BESIDE_UP: Final = frozenset({"up", "replay", "simulate", "audit"}) | _LETTERS
"""To these `embedded` is what `up` runs on this machine."""
_ENRICH: Final = frozenset({"up", "worker"})


def _contradictions(settings: Settings, command: Command) -> Iterator[tuple[str, str]]:
    """Name of a setting, and what is wrong with it together with others, the command or the file system."""
    if command in _USE_BROKER:
        yield from _broker_contradictions(settings, command)
    if command in _USE_STORE:
        yield from _store_contradictions(settings, command)
    if command in _ENRICH:
        yield from _unreadable(settings, "geoip_database")
    if command == "up":
        yield from _port_clashes(settings)


def _broker_contradictions(settings: Settings, command: Command) -> Iterator[tuple[str, str]]:
    if settings.runs_broker:
        if command not in _BESIDE_UP:
            example = f"{_EMBEDDED_HOST}:{settings.broker_port}"
            yield (
                "broker",
                f"is needed as host:port: `{settings.broker}` is for `footfall up` (whose own is {example})",
            )
        return
    if settings.broker_sasl_mechanism:
        if not settings.broker_user:
            yield "broker_user", f"is needed by {settings.broker_sasl_mechanism}"
        if settings.broker_password_file is None:
            yield "broker_password_file", f"is needed by {settings.broker_sasl_mechanism}"
    elif settings.broker_user or settings.broker_password_file is not None:
        yield "broker_sasl_mechanism", "is needed for the broker's user and password to be used"
    if settings.broker_ca_file is not None and not settings.broker_tls:
        yield "broker_tls", f"is needed for {flag('broker_ca_file')} to be used"
    yield from _unreadable(settings, "broker_password_file", "broker_ca_file")


def _store_contradictions(settings: Settings, command: Command) -> Iterator[tuple[str, str]]:
    if settings.clickhouse == "embedded":
        if command not in _BESIDE_UP:
            example = f"http://{_EMBEDDED_HOST}:{settings.store_port}"
            yield (
                "clickhouse",
                f"is needed as a URL: `embedded` is for `footfall up` (a `footfall store` has {example})",
            )
        return
    if settings.clickhouse_ca_file is not None and not settings.clickhouse.startswith("https:"):
        yield "clickhouse_ca_file", "is of no use unless --clickhouse begins with https://"
    yield from _unreadable(settings, "clickhouse_password_file", "clickhouse_ca_file")


def _unreadable(settings: Settings, *names: str) -> Iterator[tuple[str, str]]:
    for name in names:
        path: Path | None = getattr(settings, name)
        if path is None:
            continue
        try:
            with path.open("rb") as file:
                is_empty = not file.read(1)
        except OSError as error:
            yield name, f"names a file that cannot be read: {error}"
        else:
            if is_empty:
                yield name, f"names an empty file: {path}"


def _port_clashes(settings: Settings) -> Iterator[tuple[str, str]]:
    names = ["port", "metrics_port"]
    names += ["broker_port"] if settings.runs_broker else []
    names += ["store_port"] if settings.clickhouse == "embedded" else []
    owner: dict[int, str] = {}
    for name in names:
        port: int = getattr(settings, name)
        if port and port in owner:
            yield name, f"is {port}, and so is {flag(owner[port])}: each needs a port of its own"
        owner.setdefault(port, name)


def _password(file: Path | None) -> str:
    """What the file holds without the line end that editors leave. Raises Misconfigured."""
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the password file {file} cannot be read: {error}") from error
