"""Who uses the demo's bots, and what they send: events drawn from a seed, pure and without end.

Forty bots of very different size, each with its kind of users, in its time zone. People come back, talk for a while,
vote and change their mind; crawlers and programs call too; now and then a bot is the talk of the day, or is scraped.
Producers have their faults: some events come twice, some late, and few are no events at all.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import accumulate
from random import Random
from typing import Final, Generic, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from pipeline.demo_geography import PLACES
from schemas.bot_feedback import BotFeedback
from schemas.bot_request import BotRequest
from schemas.token_usage import TokenUsage
from schemas.topics import Topic

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
PERIOD_MS: Final = 300_000
"""How long the bots keep their shares of the traffic."""

EVENTS_PER_HOUR: Final = 400
"""Of all bots together, on average, in the past that `hour` tells of; spikes come on top."""

COPIES: Final = 0.02
COPIES_WITHOUT_KEY: Final = 1 / 3
"""Of the copies: those that may go through another partition, their records having no key."""
LATE: Final = 0.03
MALFORMED: Final = 0.005

T = TypeVar("T")
Rating = Literal["positive", "negative", "none"]


class Publication(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What goes to the broker."""

    topic: Topic
    key: bytes | None
    value: bytes
    event_ms: int | None
    """None: the event is malformed."""


class _Choice(Generic[T]):
    """One of the options, each as often as its weight says."""

    def __init__(self, *weighted: tuple[T, float]) -> None:
        self.options = [option for option, _ in weighted]
        self._cumulated = list(accumulate(weight for _, weight in weighted))
        self._total = self._cumulated[-1]

    def __call__(self, random: Random) -> T:
        # random() may round up to the whole when multiplied.
        place = bisect(self._cumulated, random.random() * self._total)
        return self.options[min(place, len(self.options) - 1)]


# --- the bots ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Profile:
    """What kind of bot it is."""

    surfaces: _Choice[str]
    """Endpoints; `_Client.of` says what calls at each."""
    peak_hour: int
    weekend: float
    """Traffic on Saturdays and Sundays, against other days."""
    models: _Choice[tuple[str, str] | None]
    """Model and provider."""
    paths: Sequence[str]


_OPENAI_MINI, _OPENAI = ("gpt-4o-mini", "openai"), ("gpt-4o", "openai")
_ANTHROPIC, _GOOGLE = ("claude-sonnet-4-5", "anthropic"), ("gemini-2.5-flash", "google")
_MISTRAL, _OWN = ("mistral-small-2506", "mistral"), ("llama-3.3-70b-instruct", "self-hosted")

_PROFILES: Final = {
    "help": _Profile(
        surfaces=_Choice(("widget", 55), ("web", 20), ("fs_chat", 12), ("email", 8), ("api", 5)),
        peak_hour=14,
        weekend=0.45,
        models=_Choice((_OPENAI_MINI, 6), (_ANTHROPIC, 3), (None, 1)),
        paths=("/help", "/help/billing", "/help/login", "/pricing", "/account", "/contact", "/status"),
    ),
    "shop": _Profile(
        surfaces=_Choice(("widget", 50), ("mobile", 30), ("whatsapp", 15), ("api", 5)),
        peak_hour=20,
        weekend=1.5,
        models=_Choice((_GOOGLE, 6), (_OPENAI_MINI, 3)),
        paths=("/", "/cart", "/sale", "/product/1042", "/product/77", "/product/2310", "/returns"),
    ),
    "code": _Profile(
        surfaces=_Choice(("api", 65), ("web", 20), ("fs_chat", 15)),
        peak_hour=16,
        weekend=0.4,
        models=_Choice((_ANTHROPIC, 6), (_OPENAI, 3), (_OWN, 1)),
        paths=("/docs", "/docs/api", "/docs/quickstart", "/docs/errors", "/playground"),
    ),
    "team": _Profile(
        surfaces=_Choice(("slack", 55), ("fs_chat", 35), ("api", 10)),
        peak_hour=11,
        weekend=0.1,
        models=_Choice((_OWN, 5), (_MISTRAL, 4)),
        paths=("/intranet", "/intranet/hr", "/intranet/it"),
    ),
    "talk": _Profile(
        surfaces=_Choice(("mobile", 60), ("whatsapp", 25), ("web", 15)),
        peak_hour=21,
        weekend=1.3,
        models=_Choice((_OPENAI_MINI, 5), (_OPENAI, 3), (_MISTRAL, 2)),
        paths=("/", "/chat", "/chat/new", "/discover"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Bot:
    """One of the demo's bots."""

    name: str
    key: bytes
    size: float
    """Its share of all traffic, spikes and times of day aside."""
    number: int
    profile: _Profile
    zone: ZoneInfo
    countries: _Choice[str]
    site: str
    writes_text: bool
    """Whether its producer writes times as RFC 3339 rather than as milliseconds."""

    def activity(self, ms: int) -> float:
        """Its traffic at that time, in the unit of `size`: by day and by night, over the weekend."""
        local = datetime.fromtimestamp(ms / 1000, self.zone)
        since_peak = local.hour + local.minute / 60 - self.profile.peak_hour
        of_day = 1 + 0.85 * math.cos(since_peak * math.pi / 12)
        return self.size * of_day * (self.profile.weekend if local.weekday() >= 5 else 1.0)


_REGIONS: Final = {
    "america": ("America/Chicago", "US US US US CA MX"),
    "latin": ("America/Sao_Paulo", "BR BR BR AR CO MX"),
    "britain": ("Europe/London", "GB GB GB GB IE"),
    "german": ("Europe/Berlin", "DE DE DE DE AT CH"),
    "europe": ("Europe/Paris", "FR FR DE ES IT NL PL SE"),
    "arab": ("Asia/Riyadh", "SA SA SA AE AE EG MA"),
    "africa": ("Africa/Lagos", "NG NG KE ZA EG"),
    "india": ("Asia/Kolkata", "IN IN IN IN NP BD"),
    "asia": ("Asia/Tokyo", "JP JP KR SG TW ID VN PH"),
    "pacific": ("Australia/Sydney", "AU AU AU NZ"),
}
"""Clock of the bot's region, and its countries, each as often as its weight. Others come from anywhere."""
_FROM_ANYWHERE: Final = 0.15

# By size. The largest is what one looks at first.
_BOTS: Final = """
support help america
concierge talk europe
shop shop german
code-review code america
مساعد help arab
docs code europe
travel talk asia
bank-helpdesk help britain
recipes talk latin
returns shop america
tutor talk india
it-desk team german
fashion shop europe
api-helper code india
games talk asia
insurance help german
hr-answers team america
news talk britain
clinic help arab
sql-writer code pacific
grocery shop britain
parts-finder shop asia
onboarding team europe
energy help pacific
legal-intake help america
museum talk europe
city-services help latin
release-notes code german
sales-coach team britain
telecom help africa
library talk pacific
fitness talk america
warehouse team asia
translator code europe
farmers help africa
weather talk india
wine-cellar shop europe
compliance team britain
physics-lab code asia
kathmandu-guide talk india
"""


def _bots() -> Iterator[Bot]:
    lines = _BOTS.split("\n")[1:-1]
    total = sum(1 / rank**1.1 for rank in range(1, len(lines) + 1))
    for number, line in enumerate(lines):
        name, profile, region = line.split()
        zone, named = _REGIONS[region]
        countries = dict.fromkeys(_people(), _FROM_ANYWHERE / len(_people()))
        for country in named.split():
            countries[country] += (1 - _FROM_ANYWHERE) / len(named.split())
        yield Bot(
            name=f"demo-{name}",
            key=f"demo-{name}".encode(),
            size=1 / (number + 1) ** 1.1 / total,
            number=number,
            profile=_PROFILES[profile],
            zone=ZoneInfo(zone),
            countries=_Choice(*countries.items()),
            site=f"https://{name if name.isascii() else 'assistant'}.example",
            writes_text=number % 5 == 3,
        )


@cache
def bots() -> tuple[Bot, ...]:
    """All of them, the largest first."""
    return tuple(_bots())


# --- those who call ------------------------------------------------------------------------------------


class _Client(NamedTuple):
    """A person, a crawler or a program; None is what its producer does not say."""

    ip: str | None
    user_agent: str | None
    timezone: str | None


_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_BROWSERS: Final = _Choice(
    (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/142.0.0.0 Safari/537.36", 26),
    (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/141.0.0.0 Safari/537.36", 8),
    (f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Chrome/142.0.0.0 Safari/537.36", 12),
    (f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} Chrome/142.0.0.0 Safari/537.36", 4),
    (f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} Chrome/142.0.0.0 Mobile Safari/537.36", 18),
    (
        f"Mozilla/5.0 (Linux; Android 14; SM-S921B) {_WEBKIT} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile "
        "Safari/537.36",
        4,
    ),
    (
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
        8,
    ),
    (
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/141.0.0.0 Safari/537.36 OPR/125.0.0.0",
        2,
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.6 Mobile/15E148 Safari/604.1",
        20,
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.6 Safari/605.1.15",
        8,
    ),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0", 7),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", 3),
    ("Mozilla/5.0 (Android 15; Mobile; rv:145.0) Gecko/145.0 Firefox/145.0", 2),
)
_CRAWLERS: Final = _Choice(
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", 4),
    ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", 2),
    (f"Mozilla/5.0 {_WEBKIT}; compatible; GPTBot/1.2; +https://openai.com/gptbot", 3),
    ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", 1),
)
_PROGRAMS: Final = _Choice(
    ("python-requests/2.32.5", 5),
    ("OpenAI/Python 1.109.1", 4),
    ("node-fetch/3.3.2", 3),
    ("okhttp/4.12.0", 3),
    ("Go-http-client/2.0", 2),
    ("curl/8.14.1", 2),
)
_CRAWLED: Final = 0.06
"""How many of the conversations on a bot's pages are visits of crawlers."""

_PEOPLE_PER_PLACE: Final = 160
_IPV4: Final = 0.4
_NOT_IN_DATABASE: Final = 0.02


@cache
def _people() -> dict[str, list[_Client]]:
    """Everybody there is by country. A person keeps address and browser, and comes back."""
    random = Random("people")  # noqa: S311 - guards nothing
    people: dict[str, list[_Client]] = {}
    for place in PLACES:
        *ipv4, ipv6 = place.networks
        for number in range(_PEOPLE_PER_PLACE):
            if random.random() < _IPV4:  # several of them behind one address
                network = ipv4[number % len(ipv4)]
                ip = str(network[random.randrange(8)])
            elif random.random() < _NOT_IN_DATABASE:
                ip = f"2001:db8:ff00:{number:x}::1"
            else:
                ip = str(ipv6[random.getrandbits(24) << 64 | random.getrandbits(32)])
            client = _Client(ip=ip, user_agent=_BROWSERS(random), timezone=place.timezone)
            people.setdefault(place.country, []).append(client)
    for group in people.values():
        random.shuffle(group)
    return people


@lru_cache(1024)
def _machine(user_agent: str, country: str, number: int) -> _Client:
    """One of a few computers in the country that call by themselves."""
    ip = _people()[country][number].ip
    return _Client(ip=ip, user_agent=user_agent, timezone=None)


_NOBODY: Final = _Client(ip=None, user_agent=None, timezone=None)
"""A messenger stands between bot and person, and says nothing of either."""


# --- days out of the ordinary --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Spike:
    """A bot has much more traffic than usual for a while: `extra` times its size on top."""

    start_ms: int
    end_ms: int
    bot: int
    extra: float
    kind: Literal["campaign", "scrape"]
    """People of one country on one page / a program that asks and asks, and uses no tokens."""
    country: str


@lru_cache(64)
def spikes(seed: int, day: int) -> tuple[Spike, ...]:
    """The spikes that begin on a day (UTC, counted from 1970): one of hours, and one of minutes in each hour."""
    random = Random(f"spikes {seed} {day}")  # noqa: S311
    long = [(random.uniform(6, 18), random.uniform(1.5, 4), random.uniform(3, 6), day % 6)]
    short = [
        (hour + random.uniform(0, 0.9), random.uniform(0.03, 0.1), random.uniform(3, 6), random.randrange(10))
        for hour in range(24)
    ]
    found = []
    for number, (hour, hours, extra, bot) in enumerate(long + short):
        start_ms = day * DAY_MS + int(hour * HOUR_MS)
        found.append(
            Spike(
                start_ms=start_ms,
                end_ms=start_ms + int(hours * HOUR_MS),
                bot=bot,
                extra=extra,
                kind="scrape" if (day + number) % 3 == 0 else "campaign",
                country=bots()[bot].countries(random),
            )
        )
    return tuple(found)


def _spikes_at(seed: int, ms: int) -> dict[int, Spike]:
    """By bot. None lasts longer than a day."""
    day = ms // DAY_MS
    near = (*spikes(seed, day - 1), *spikes(seed, day))
    return {spike.bot: spike for spike in near if spike.start_ms <= ms < spike.end_ms}


class _Mix:
    """How the traffic of a period is shared among the bots."""

    def __init__(self, seed: int, ms: int) -> None:
        self.spikes = _spikes_at(seed, ms)
        shares = [bot.activity(ms) for bot in bots()]
        self.unusual: dict[int, float] = {}
        """Of a bot in a spike: how much of its traffic is the spike's."""
        for number, spike in self.spikes.items():
            extra = spike.extra * bots()[number].size
            shares[number] += extra
            self.unusual[number] = extra / shares[number]
        self.total = sum(shares)
        """1 is the average of all bots without spikes."""
        self.bot = _Choice(*zip(bots(), shares, strict=True))


@lru_cache(64)
def _mix(seed: int, period: int) -> _Mix:
    return _Mix(seed, period * PERIOD_MS + PERIOD_MS // 2)


# --- traffic -------------------------------------------------------------------------------------------


class _Conversation(msgspec.Struct):
    """A client talking to a bot."""

    bot: Bot
    endpoint: str
    client: _Client
    chat_id: str | None
    page_url: str | None
    leaves_traces: bool
    """Whether its requests use tokens and may be voted on."""
    turns: int = 0


_CONTINUED: Final = 0.64
_OPEN_CONVERSATIONS: Final = 60
_PATIENCE: Final = 16
"""How many things that follow from requests are held back, so that they come a little later."""
_VOTED, _POSITIVE, _VOTED_AGAIN, _WITHDRAWN = 0.14, 0.78, 0.2, 0.3
_SUMMARISED: Final = 0.1
_SOURCES: Final = {"fs_chat": "fs_chat", "api": "responses", "email": "ticket_summary"}
_PLACES_TO_CALL: Final = frozenset({"widget", "web", "fs_chat", "mobile"})
"""Surfaces at which a producer sees who is there."""


class Traffic:
    """Events, one after another. The same arguments and times give the same events."""

    def __init__(self, *, seed: int, shape: str, name: str, malformed: float = MALFORMED) -> None:
        """`shape` tells one drawing from another; `name`, unlike any other traffic's, is what all ids begin with."""
        self._random = Random(f"{shape} {seed}")  # noqa: S311
        self._seed = seed
        self._name = name
        self._malformed = malformed
        self._made = 0
        self._conversations: deque[_Conversation] = deque(maxlen=_OPEN_CONVERSATIONS)
        self._pending: list[Callable[[int], Publication]] = []

    def next(self, ms: int) -> Publication:
        """What is published at `ms`."""
        random = self._random
        self._made += 1
        chance = random.random()
        if chance < self._malformed:
            return self._no_event(ms)
        if len(self._pending) > _PATIENCE:
            at = int(random.random() * len(self._pending))
            self._pending[at], self._pending[-1] = self._pending[-1], self._pending[at]
            publication = self._pending.pop()(ms)
        else:
            publication = self._request(ms)
        if chance > 1 - COPIES:
            key = None if random.random() < COPIES_WITHOUT_KEY else publication.key
            copy = msgspec.structs.replace(publication, key=key)
            self._pending.append(lambda _: copy)
        return publication

    def _event_ms(self, ms: int) -> int:
        """When what is published now has happened: now, or minutes to a day ago."""
        chance = self._random.random()
        if chance >= LATE:
            return ms
        # Any order of magnitude from 3 minutes to 26 hours is as likely as another.
        return ms - int(180_000 * 520 ** (chance / LATE))

    def _id(self) -> str:
        return f"{self._name}-{self._made:x}"

    # --- requests

    def _request(self, ms: int) -> Publication:
        random = self._random
        if self._conversations and random.random() < _CONTINUED:
            talk = self._conversations[int(random.random() * len(self._conversations))]
        else:
            talk = self._conversation(ms)
            self._conversations.append(talk)
        talk.turns += 1
        event_id, event_ms, client = self._id(), self._event_ms(ms), talk.client
        if talk.leaves_traces:
            turns = talk.turns
            self._pending.append(lambda ms: self._usage(ms, talk, turns))
            if random.random() < _VOTED:
                rating: Rating = "positive" if random.random() < _POSITIVE else "negative"
                self._pending.append(lambda ms: self._feedback(ms, talk, event_id, rating))
        event = BotRequest(
            event_id=event_id,
            bot_id=talk.bot.name,
            event_time=_time(talk.bot, event_ms),
            endpoint=talk.endpoint,
            chat_id=talk.chat_id,
            ip=client.ip,
            user_agent=client.user_agent,
            page_url=talk.page_url,
            timezone=client.timezone,
        )
        return _publication(Topic.BOT_REQUESTS, talk.bot, event, event_ms)

    def _conversation(self, ms: int) -> _Conversation:
        random, mix = self._random, _mix(self._seed, ms // PERIOD_MS)
        bot = mix.bot(random)
        chat_id = f"chat-{self._id()}"
        if bot.number in mix.unusual and random.random() < mix.unusual[bot.number]:
            spike = mix.spikes[bot.number]
            if spike.kind == "scrape":
                return _Conversation(
                    bot=bot,
                    endpoint="api",
                    client=_machine("python-requests/2.32.5", spike.country, random.randrange(3)),
                    chat_id=None,
                    page_url=None,
                    leaves_traces=False,
                )
            return _Conversation(
                bot=bot,
                endpoint=bot.profile.surfaces.options[0],
                client=random.choice(_people()[spike.country]),
                chat_id=chat_id,
                page_url=f"{bot.site}/campaign",
                leaves_traces=True,
            )
        endpoint = bot.profile.surfaces(random)
        country = bot.countries(random)
        page_url = None
        is_crawled = False
        client = _NOBODY
        if endpoint in _PLACES_TO_CALL:
            paths = bot.profile.paths
            page_url = bot.site + paths[int(len(paths) * random.random() ** 2)]
            is_crawled = endpoint != "mobile" and random.random() < _CRAWLED
            if is_crawled:
                client = _machine(_CRAWLERS(random), "US", random.randrange(8))
            else:
                # A few come often; each bot has others of them.
                people = _people()[country]
                client = people[(int(len(people) * random.random() ** 2) + 37 * bot.number) % len(people)]
        elif endpoint == "api":
            client = _machine(_PROGRAMS(random), country, random.randrange(12))
        return _Conversation(
            bot=bot,
            endpoint=endpoint,
            client=client,
            chat_id=None if is_crawled else chat_id,
            page_url=page_url,
            leaves_traces=not is_crawled,
        )

    # --- what follows from them

    def _usage(self, ms: int, talk: _Conversation, turns: int) -> Publication:
        random = self._random
        model = talk.bot.profile.models(random)
        source = _SOURCES.get(talk.endpoint, "chat")
        if source == "chat" and random.random() < _SUMMARISED:
            source = "ticket_summary"
        # The whole conversation is sent each time.
        input_tokens = int(
            (420 + 60 * (talk.bot.number % 7) + 330 * min(turns, 20)) * random.lognormvariate(0, 0.35)
        )
        output_tokens = int((60 if source == "ticket_summary" else 190) * random.lognormvariate(0, 0.6))
        event_ms = self._event_ms(ms)
        event = TokenUsage(
            event_id=self._id(),
            bot_id=talk.bot.name,
            event_time=_time(talk.bot, event_ms),
            source=source,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            model=None if model is None else model[0],
            provider=None if model is None else model[1],
            chat_id=talk.chat_id,
            cached_input_tokens=input_tokens // 2 if turns > 1 else None,
            reasoning_output_tokens=output_tokens // 3 if source == "responses" else None,
        )
        return _publication(Topic.TOKEN_USAGES, talk.bot, event, event_ms)

    def _feedback(self, ms: int, talk: _Conversation, message_id: str, rating: Rating) -> Publication:
        random = self._random
        event_ms = self._event_ms(ms)
        event = BotFeedback(
            event_id=self._id(),
            bot_id=talk.bot.name,
            event_time=_time(talk.bot, event_ms),
            rating=rating,
            chat_id=talk.chat_id,
            message_id=message_id,
            endpoint=talk.endpoint,
        )
        if random.random() < _VOTED_AGAIN:
            changed: Rating = "negative" if rating == "positive" else "positive"
            if random.random() < _WITHDRAWN:
                changed = "none"
            self._pending.append(lambda ms: self._feedback(ms, talk, message_id, changed))
        return _publication(Topic.BOT_FEEDBACK, talk.bot, event, event_ms)

    def _no_event(self, ms: int) -> Publication:
        """What a producer with a fault publishes."""
        bot = _mix(self._seed, ms // PERIOD_MS).bot(self._random)
        good = {"event_id": self._id(), "bot_id": bot.name, "event_time": ms}
        topic, value = self._random.choice(
            (
                (Topic.BOT_REQUESTS, good),
                (Topic.BOT_REQUESTS, good | {"endpoint": "api", "event_time": "yesterday"}),
                (Topic.BOT_REQUESTS, good | {"endpoint": "api", "event_time": ms + 365 * DAY_MS}),
                (Topic.BOT_REQUESTS, good | {"endpoint": "api", "bot_id": f"{bot.name}/v2"}),
                (Topic.TOKEN_USAGES, good | {"source": "chat", "input_tokens": -1, "output_tokens": 40}),
                (Topic.TOKEN_USAGES, good | {"source": "chat", "input_tokens": "812", "output_tokens": 40}),
                (Topic.BOT_FEEDBACK, good | {"rating": "meh"}),
                (Topic.BOT_FEEDBACK, [good | {"rating": "positive"}]),
            )
        )
        encoded = msgspec.json.encode(value)
        if self._random.random() < 0.2:
            encoded = encoded[: len(encoded) // 2]
        return Publication(topic=topic, key=bot.key, value=encoded, event_ms=None)


_encode = msgspec.json.Encoder().encode


def _publication(
    topic: Topic, bot: Bot, event: BotRequest | TokenUsage | BotFeedback, event_ms: int
) -> Publication:
    return Publication(topic=topic, key=bot.key, value=_encode(event), event_ms=event_ms)


def _time(bot: Bot, ms: int) -> int | str:
    if not bot.writes_text:
        return ms
    # From whole milliseconds: a fraction of a second in floating point might be cut to the one before.
    local = datetime.fromtimestamp(ms // 1000, bot.zone)
    return local.replace(microsecond=ms % 1000 * 1000).isoformat(timespec="milliseconds")


# --- the past ------------------------------------------------------------------------------------------


def hour(seed: int, number: int) -> Iterator[tuple[int, Publication]]:
    """When what was published in an hour (UTC, counted from 1970), in order: always the very same events.

    None of them is malformed: a dead letter has no identity, so telling of the hour twice would count it twice.
    """
    start_ms = number * HOUR_MS
    name = blake2b(f"{seed} {number}".encode(), digest_size=6).hexdigest()
    random = Random(f"times {seed} {number}")  # noqa: S311
    traffic = Traffic(seed=seed, shape=f"hour {number}", name=name, malformed=0)
    for period_ms in range(start_ms, start_ms + HOUR_MS, PERIOD_MS):
        average = EVENTS_PER_HOUR * PERIOD_MS / HOUR_MS
        count = round(average * _mix(seed, period_ms // PERIOD_MS).total * random.uniform(0.85, 1.15))
        for ms in sorted([period_ms + int(random.random() * PERIOD_MS) for _ in range(count)]):
            yield ms, traffic.next(ms)


def past(seed: int, *, from_ms: int, to_ms: int) -> Iterator[Publication]:
    """What was published from `from_ms` to before `to_ms`; whoever asks again is told the same."""
    for number in range(from_ms // HOUR_MS, -(-to_ms // HOUR_MS)):
        for ms, publication in hour(seed, number):
            if from_ms <= ms < to_ms:
                yield publication


def present(seed: int, *, started: datetime) -> Traffic:
    """Traffic of one run, whose events are nobody else's; of one seed all runs look alike."""
    microseconds = int((started - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
    name = blake2b(f"{seed} from {microseconds}".encode(), digest_size=6).hexdigest()
    return Traffic(seed=seed, shape="present", name=name)
