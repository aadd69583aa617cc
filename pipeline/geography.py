"""Where an address is, by a City-schema MMDB file that may be replaced at any moment.

Format: https://maxmind.github.io/MaxMind-DB/. The raw reader is used rather than geoip2's models, which build
twelve objects for the three strings that are wanted (14 µs against 6).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import maxminddb

from pipeline.metrics import GEO_FAILED_LOADS, GEO_FAILED_LOOKUPS

log = logging.getLogger(__name__)

HAS_FAST_READER: Final = importlib.util.find_spec("maxminddb.extension") is not None
"""Whether maxminddb has its C extension. Without it a lookup costs ten times as much."""

CHECK_SECONDS: Final = 2.0
CACHED_NETWORKS: Final = 1 << 17
CACHED_ADDRESSES: Final = 1 << 16
CACHED_PLACES: Final = 1 << 16
NETWORK_BITS: Final = 28
"""IPv4 networks of this length are remembered whole: a database has few smaller ones, and addresses come in flocks."""
NETWORK_SIZE: Final = 1 << (32 - NETWORK_BITS)
MAX_BUILD_SECONDS: Final = (1 << 32) - 1

Place = tuple[str, str, str]
"""Country (ISO 3166-1 alpha-2), first subdivision, city (both in English); empty where unknown."""

UNKNOWN: Final[Place] = ("", "", "")
NOWHERE: Final = UNKNOWN, 128

Signature = tuple[int, int, int, int]
"""Device, inode, size and modification time in ns: what changes when a file does."""


@dataclass(frozen=True, kw_only=True)
class _Database:
    build_seconds: int
    lookup: Callable[[str], Place]


class Geography:
    """Places of addresses by the file as it is now. Nothing raises or waits, whatever becomes of the file.

    A new file, put there by rename or written in place, is used within a few seconds of its last change; the
    old one stays in use until then, and for as long as what lies there cannot be read.
    """

    build_seconds: int
    """When the database in use was built, in seconds since the epoch; 0 while there is none."""

    def __init__(self, path: Path | None) -> None:
        """With no path every place is unknown. A file that is there is read before this returns."""
        self._path = path
        self._use(None)
        self.failed_loads = 0
        """Files that could not be read, each counted once."""
        self.failed_lookups = 0
        """Lookups for which the database in use turned out to be damaged; those of one network or address once."""
        self._next_check = float("-inf")
        self._seen: Signature | None = None
        self._tried: Signature | None = None
        self._is_missing = False
        self._loading: Future[_Database] | None = None
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="geography")
        if path is None:
            return
        if not HAS_FAST_READER:
            log.warning("maxminddb lacks its C extension: geography costs ten times as much as it should")
        signature = self._signature(path)
        if signature is not None:
            self._take(self._load(path, signature))

    def lookup(self, ip: str) -> Place:
        """The place of an address in its normal form, UNKNOWN if it has none. No other text makes it raise."""
        return self._lookup(ip)

    def refresh(self, now: float) -> None:
        """Look after the file, at most every CHECK_SECONDS of `now` (of any clock that does not go back).

        Reading a new one happens in a thread; it comes into use inside a later call of this, never between.
        """
        if self._loading is not None:
            if self._loading.done():
                loading, self._loading = self._loading, None
                self._take(loading)
            return
        if self._path is None or now < self._next_check:
            return
        self._next_check = now + CHECK_SECONDS
        signature = self._signature(self._path)
        # The same over two checks: nobody is in the middle of writing it.
        if signature is not None and signature != self._tried and signature == self._seen:
            self._loading = self._load(self._path, signature)
        self._seen = signature

    def _signature(self, path: Path) -> Signature | None:
        try:
            signature = _signature_of(path)
        except OSError as error:
            if not self._is_missing:
                log.warning("the geo database cannot be found, so none or the last one is used: %s", error)
            self._is_missing = True
            return None
        self._is_missing = False
        return signature

    def _load(self, path: Path, signature: Signature) -> Future[_Database]:
        self._tried = signature
        return self._loader.submit(_open, path, signature, self._count_failed_lookup)

    def _take(self, loading: Future[_Database]) -> None:
        try:
            database = loading.result()
        except _StillChanging:
            self._tried = None
        except Exception as error:  # a damaged file may make the reader raise anything
            self.failed_loads += 1
            GEO_FAILED_LOADS.inc()
            log.error("the geo database %s cannot be used, so none or the last one is: %s", self._path, error)
        else:
            self._use(database)
            built = datetime.fromtimestamp(database.build_seconds, UTC).date()
            log.info("geo database of %s in use: %s", built, self._path)

    def _use(self, database: _Database | None) -> None:
        self._lookup = _nowhere if database is None else database.lookup
        self.build_seconds = 0 if database is None else database.build_seconds

    def _count_failed_lookup(self, error: Exception) -> None:
        if self.failed_lookups == 0:
            log.error("the geo database %s is damaged; some places stay unknown: %s", self._path, error)
        self.failed_lookups += 1
        GEO_FAILED_LOOKUPS.inc()


class _StillChanging(Exception):
    """The file changed while it was being read. Look again later."""


def _nowhere(ip: str) -> Place:
    return UNKNOWN


def _signature_of(path: Path) -> Signature:
    stat = path.stat()
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _open(path: Path, signature: Signature, on_damage: Callable[[Exception], None]) -> _Database:
    """Open a copy of the file. Raises _StillChanging, or whatever a file that is no database leads to."""
    # The C reader maps the file into memory. Were it the file itself, truncating it in order to write it anew
    # would end this process with SIGBUS at the next lookup. The mapping outlives the copy's name.
    with tempfile.NamedTemporaryFile(prefix="footfall-geo-") as copy:
        with path.open("rb") as original:
            shutil.copyfileobj(original, copy, 1 << 20)
        copy.flush()
        if _signature_of(path) != signature:
            raise _StillChanging
        reader = maxminddb.open_database(os.fspath(copy.name))
    metadata = reader.metadata()
    if "City" not in metadata.database_type and "Enterprise" not in metadata.database_type:
        log.warning("the geo database calls itself %r, which may lack cities", metadata.database_type)

    @lru_cache(CACHED_PLACES)
    def shared(place: Place) -> Place:
        return place  # the one object that all addresses of a place have in common

    def found(ip: str) -> tuple[Place, int]:
        """The place, and the length of the network that all is in."""
        try:
            record, bits = reader.get_with_prefix_len(ip)
            return shared(_place(record)), bits
        except ValueError:  # no address, or an IPv6 one in a database of IPv4
            return NOWHERE
        except Exception as error:
            on_damage(error)
            return NOWHERE

    @lru_cache(CACHED_NETWORKS)
    def of_network(first_three: str, number: int) -> Place | None:
        """The place of one of the networks in a /24; None if its addresses differ."""
        place, bits = found(f"{first_three}.{number * NETWORK_SIZE}")
        return place if bits <= NETWORK_BITS else None

    @lru_cache(CACHED_ADDRESSES)
    def of_address(ip: str) -> Place:
        return found(ip)[0]

    def lookup(ip: str) -> Place:
        first_three, _, last = ip.rpartition(".")
        try:
            place = of_network(first_three, int(last) // NETWORK_SIZE) if first_three else None
        except ValueError:
            place = None
        return of_address(ip) if place is None else place

    return _Database(
        build_seconds=min(max(int(metadata.build_epoch), 0), MAX_BUILD_SECONDS),
        lookup=lookup,
    )


def _place(record: Any) -> Place:
    """The three names of a record of the City schema, which databases of others follow more or less."""
    if not isinstance(record, dict):
        return UNKNOWN
    country = record.get("country")
    subdivisions = record.get("subdivisions")
    return (
        _text(country.get("iso_code")) if isinstance(country, dict) else "",
        _english(subdivisions[0]) if isinstance(subdivisions, list) and subdivisions else "",
        _english(record.get("city")),
    )


def _english(named: Any) -> str:
    names = named.get("names") if isinstance(named, dict) else None
    return _text(names.get("en")) if isinstance(names, dict) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
