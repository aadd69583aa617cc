"""Every setting: name, default, help. Read once, in one place; every problem is reported at once.

`--store-port` = `FOOTFALL_STORE_PORT` = `store_port` in the TOML file given by `--config`; flag beats environment
beats file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What a command may be told. A command ignores what it does not use."""

    model_config = SettingsConfigDict(env_prefix="FOOTFALL_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address that the page and the API listen on.")
    port: int = Field(8321, ge=0, le=65535, description="Port of the page and the API.")
    data_dir: Path = Field(Path("footfall-data"), description="Where `up` and `store` keep their data.")
    broker: str = Field(
        "embedded", description="`embedded`, `kafka` (both for `up` only) or host:port[,host:port]."
    )
    broker_port: int = Field(19092, ge=1, le=65535, description="Port of the broker that `up` embeds.")
    clickhouse: str = Field(
        "embedded", description="`embedded` (`up` only) or a URL such as http://host:8123."
    )
    store_port: int = Field(
        18123, ge=1, le=65535, description="Port of the store that `up` and `store` embed."
    )
    metrics_port: int = Field(
        8322, ge=0, le=65535, description="The worker's /livez, /readyz, /metrics; 0: any free one."
    )
    geoip_database: Path | None = Field(
        None, description="City-schema MMDB file; a replaced file is used without a restart."
    )
    topic_prefix: str = Field("", description="Put before every topic's name.")
    consumer_group: str = Field("footfall", description="Kafka consumer group of the workers.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, else JSON."
    )

    broker_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="Empty: no SASL."
    )
    broker_user: str = Field("", description="SASL user.")
    broker_password_file: Path | None = Field(None, description="File that holds the SASL password.")
    broker_tls: bool = Field(False, description="Speak TLS to the broker.")
    broker_ca_file: Path | None = Field(
        None, description="PEM bundle for the broker's certificate; none: the system's."
    )
    clickhouse_user: str = Field("default", description="ClickHouse user.")
    clickhouse_password_file: Path | None = Field(None, description="File that holds ClickHouse's password.")
    clickhouse_ca_file: Path | None = Field(
        None, description="PEM bundle for ClickHouse's certificate; none: the system's."
    )

    flush_interval_seconds: float = Field(
        0.5, gt=0, le=60, description="How long a worker gathers records before it writes them."
    )
    flush_max_records: int = Field(
        10_000, ge=1, le=1_000_000, description="A worker writes at once when it holds this many."
    )
    seal_interval_seconds: float = Field(2.0, gt=0, le=60, description="Pause between the sealer's passes.")
