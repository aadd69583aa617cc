"""Which browser, and what kind of client, a user agent stands for.

The rules are ua-parser's, which its project maintains (package `ua-parser-builtins`), read the way
user-agents reads them. Short lists of our own, at the end, add what they lack: which of their families are
HTTP libraries, and the names of some clients that they do not know.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

ClientClass = Literal["person", "crawler", "api_client", ""]
"""A browser or app in somebody's hands / one that visits by itself / a program that calls; empty: unknown."""

CACHED_USER_AGENTS: Final = 1 << 14


@lru_cache(CACHED_USER_AGENTS)
def client(user_agent: str) -> tuple[str, ClientClass]:
    """Browser family and client class of a user agent that is already cut to its limit; never raises.

    The family is ua-parser's name ("Chrome", "Mobile Safari", "Googlebot"), empty where it knows none.
    """
    if not user_agent:
        return "", ""
    # A third of a second, most of it for rules that user-agents compiles and we never use: not for whoever only
    # imports this, and for a worker while it waits for its partitions.
    from pipeline.user_agent import OTHER, ParsedUserAgent

    parsed = ParsedUserAgent(user_agent)
    family = parsed.browser.family
    known = family if family != OTHER else ""
    if known in API_CLIENT_FAMILIES or _is_api_client(user_agent):
        return known, "api_client"
    if parsed.is_bot or known in CRAWLER_FAMILIES or _product(user_agent) in CRAWLER_PRODUCTS:
        return known, "crawler"
    if not known and "+http" in user_agent:  # how robots, by convention, say who runs them
        return "", "crawler"
    if known or parsed.os.family != OTHER:
        return known, "person"
    return "", ""


def warm_up() -> None:
    """Read and compile the rules now rather than at the first event."""
    from pipeline.user_agent import resolver

    resolver()


def _is_api_client(user_agent: str) -> bool:
    # PowerShell 6 and later call themselves Mozilla, and name themselves last.
    return _product(user_agent) in API_CLIENT_PRODUCTS or " PowerShell/" in user_agent


def _product(user_agent: str) -> str:
    """The name that a user agent begins with, in lower case, without its version."""
    return _END_OF_PRODUCT.split(user_agent, maxsplit=1)[0].strip().lower()


_END_OF_PRODUCT = re.compile(r"[/(;]| v?\d")

API_CLIENT_FAMILIES: Final = frozenset(
    {
        "AHC",
        "Apache-CXF",
        "Apache-HttpClient",
        "Axel",
        "Boto",
        "Boto3",
        "Debian APT-HTTP",
        "Go-CF-client",
        "Go-http-client",
        "Google-HTTP-Java-Client",
        "GuzzleHttp",
        "HTTPClient",
        "HTTPie",
        "HttpMonitor",
        "JNLP",
        "Java",
        "Java-EurekaClient",
        "Java-EurekaClient-Replication",
        "Jersey",
        "JetS3t",
        "PostmanRuntime",
        "PycURL",
        "Python Requests",
        "Python aiohttp",
        "Python-urllib",
        "ReactorNetty",
        "Ubuntu APT-HTTP",
        "Vert.x-WebClient",
        "Wget",
        "WinHTTP",
        "WindowsPowerShell",
        "aihttp",
        "akka-http",
        "aria2",
        "aws-cli",
        "aws-sdk-cpp",
        "aws-sdk-dotnet-core",
        "aws-sdk-go",
        "aws-sdk-go-v2",
        "aws-sdk-java",
        "aws-sdk-nodejs",
        "aws-sdk-ruby",
        "aws-sdk-ruby2",
        "axios",
        "curl",
        "fetch libfetch",
        "go-resty",
        "got",
        "http%20client",
        "http.rb",
        "insomnia",
        "libcurl-agent",
        "libwww-perl",
        "lua-resty-http",
        "okhttp",
        "reqwest",
        "s3fs",
        "scalaj-http",
        "unirest-java",
        "unirest-nodejs",
        "unirest-php",
        "unirest-python",
        "unirest-ruby",
        "urlgrabber",
        "wget2",
    }
)
"""Which of ua-parser's families are HTTP libraries and tools. Some of them it takes for spiders (`Java`)."""

API_CLIENT_PRODUCTS: Final = frozenset(
    {
        "anthropic",
        "apache-httpasyncclient",
        "asyncanthropic",
        "asyncopenai",
        "blackbox exporter",
        "bun",
        "chef client",
        "dart",
        "deno",
        "elb-healthchecker",
        "faraday",
        "googlehc",
        "grpc-go",
        "grpc-java",
        "grpc-node-js",
        "grpc-python",
        "guzzlehttp",
        "hackney",
        "hyper",
        "insomnia",
        "jakarta commons-httpclient",
        "java-http-client",
        "k6",
        "kube-probe",
        "node",
        "node-fetch",
        "openai",
        "php",
        "portscout",
        "prometheus",
        "python-httpx",
        "python-urllib3",
        "rest-client",
        "restsharp",
        "ruby",
        "superagent",
        "symfony httpclient",
        "typhoeus",
        "undici",
    }
)
"""What HTTP libraries, SDKs and probes call themselves for which ua-parser has no family."""

CRAWLER_FAMILIES: Final = frozenset(
    {"Feedbin", "HeadlessChrome", "PhantomJS", "SimplePie", "SimpleRSS", "Tiny Tiny RSS"}
)
"""Which of ua-parser's families visit by themselves, though it does not take them for spiders."""

CRAWLER_PRODUCTS: Final = frozenset({"feedburner", "feedly", "universalfeedparser"})
"""What feed readers call themselves for which ua-parser has no family."""
