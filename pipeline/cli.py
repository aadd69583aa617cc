"""The command `footfall`: its commands by name, and how each ends.

Exit codes: 0 done; 1 the answer is no; 2 wrong usage or configuration; 70 an internal fault, after which a
restart is right. Results go to stdout; logs and errors to stderr.

`commands` is imported when one of them is called: help and version should not wait for it.
"""

from __future__ import annotations

import importlib.metadata
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import cyclopts

from pipeline.errors import FootfallError, Misconfigured, Refused

DONE: Final = 0
REFUSED: Final = 1
WRONG_USAGE: Final = 2
FAULT: Final = 70

log = logging.getLogger(__name__)

app = cyclopts.App(
    name="footfall",
    help="""Analytics for chat and AI bots: every request counted, once.

    To try it, run `footfall up`, open the address it prints, and tell it of a request to your bot:

      curl http://127.0.0.1:8321/api/v1/events/bot_requests \\
        -H 'Content-Type: application/json' -d '{
        "bot_id": "my-bot", "event_id": "1", "endpoint": "api",
        "event_time": '$(date +%s000)'}'

    Its page is http://127.0.0.1:8321/bots/my-bot/analytics a second later.
    """,
    help_format="plaintext",
    version=lambda: importlib.metadata.version("footfall"),
    result_action="return_value",
)

COMMANDS: Final = {
    "up": "Run everything here, without Docker or Java: broker, store, worker and page. Ctrl-C stops it.",
    "worker": "Run one worker: it consumes events and counts them. Start more to go faster.",
    "web": "Serve the page and the API.",
    "store": "Serve the embedded store alone, for one machine with several workers.",
    "migrate": "Upgrade the database to this version. Safe to repeat, and to run twice at once.",
    "replay": "Publish an access log, a token trace or NDJSON of events.",
    "simulate": "Publish lively traffic of forty bots that do not exist.",
    "audit": "Prove that every offset is accounted for and that rollups equal their rows.",
    "dead-letters list": "List events that were refused, newest first, with their reasons.",
    "dead-letters show": "Show everything known about one of them, with its bytes.",
    "dead-letters replay": "Publish them again, once the cause is fixed.",
    "config": "Show every setting, its value, and where it came from.",
}
GROUPS: Final = {"dead-letters": "List, show and replay events that were refused."}
"""Of commands of two words the first."""
_within = {"": app}
for order, (name, text) in enumerate(COMMANDS.items(), start=1):
    group, _, word = name.rpartition(" ")
    if group not in _within:
        _within[group] = cyclopts.App(
            name=group,
            help=GROUPS[group],
            help_format="plaintext",
            sort_key=order,
            result_action="return_value",
        )
        app.command(_within[group])
    function = name.replace("-", "_").replace(" ", "_")
    _within[group].command(
        f"pipeline.commands:{function}", name=word, help=text, help_format="plaintext", sort_key=order
    )


def main() -> NoReturn:
    """Entry point of `footfall`."""
    # Until a command knows better (imports alone take a second) there is nothing to finish.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run one command line, and return its exit code."""
    try:
        app(list(words), exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        return _say(WRONG_USAGE, f"{error}\nSee `footfall --help`.")
    except Misconfigured as error:
        return _say(WRONG_USAGE, str(error))
    except Refused as error:
        return _say(REFUSED, str(error))
    except FootfallError as error:  # Unavailable where patience was limited, RestartNeeded
        return _say(FAULT, str(error))
    except Exception:
        log.critical("an internal fault: start it again, and please report this", exc_info=True)
        return FAULT
    return DONE


def _say(code: int, text: str) -> int:
    """For the person at the keyboard, a line per problem. Returns the code."""
    for line in text.splitlines():
        print(f"footfall: {line}", file=sys.stderr, flush=True)  # noqa: T201
    return code
