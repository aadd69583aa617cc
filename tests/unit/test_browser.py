"""Browsers and client classes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from user_agents.parsers import UserAgent

from pipeline import browser
from pipeline.browser import client
from pipeline.user_agent import ParsedUserAgent

_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0"
_SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"

CLIENTS = {
    # People: desktop, mobile, tablets, televisions, text browsers, apps.
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} Safari/537.36": ("Chrome", "person"),
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} Safari/537.36 Edg/126.0.0.0": ("Edge", "person"),
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} Safari/537.36 OPR/111.0.0.0": ("Opera", "person"),
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_CHROME} Safari/537.36": ("Chrome", "person"),
    f"Mozilla/5.0 (X11; Linux x86_64) {_CHROME} Safari/537.36": ("Chrome", "person"),
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {_CHROME} Safari/537.36": ("Chrome", "person"),
    f"Mozilla/5.0 (Linux; Android 10; K) {_CHROME} Mobile Safari/537.36": ("Chrome Mobile", "person"),
    f"Mozilla/5.0 (Linux; Android 14; SM-X710) {_CHROME} Safari/537.36": ("Chrome", "person"),
    "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/UQ1A; wv) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Version/4.0 Chrome/126.0.0.0 Mobile Safari/537.36": ("Chrome Mobile WebView", "person"),
    "Mozilla/5.0 (Linux; Android 13; SM-S901B) AppleWebKit/537.36 (KHTML, like Gecko)"
    " SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36": ("Samsung Internet", "person"),
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_SAFARI} Version/17.5 Safari/605.1.15": (
        "Safari",
        "person",
    ),
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {_SAFARI} Version/17.5 Mobile/15E148"
    " Safari/604.1": ("Mobile Safari", "person"),
    f"Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) {_SAFARI} Version/17.5 Mobile/15E148 Safari/604.1": (
        "Mobile Safari",
        "person",
    ),
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {_SAFARI} CriOS/126.0.6478.54 Mobile/15E148"
    " Safari/604.1": ("Chrome Mobile iOS", "person"),
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {_SAFARI} Mobile/15E148": (
        "Mobile Safari UI/WKWebView",
        "person",
    ),
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0": ("Firefox", "person"),
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0": ("Firefox", "person"),
    "Mozilla/5.0 (Android 14; Mobile; rv:127.0) Gecko/127.0 Firefox/127.0": ("Firefox Mobile", "person"),
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {_SAFARI} FxiOS/127.0 Mobile/15E148"
    " Safari/605.1.15": ("Firefox iOS", "person"),
    "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko": ("IE", "person"),
    "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 5.1; Trident/4.0)": ("IE", "person"),
    "Opera/9.80 (Windows NT 6.1; WOW64) Presto/2.12.388 Version/12.18": ("Opera", "person"),
    "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/34.1244; U; en) Presto/2.8.119 Version/11.10": (
        "Opera Mini",
        "person",
    ),
    "Mozilla/5.0 (BB10; Touch) AppleWebKit/537.10+ (KHTML, like Gecko) Version/10.0.9.2372 Mobile"
    " Safari/537.10+": ("BlackBerry WebKit", "person"),
    "Mozilla/5.0 (Mobile; Windows Phone 8.1; Android 4.0; ARM; Trident/7.0; Touch; rv:11.0; IEMobile/11.0;"
    " NOKIA; Lumia 520) like iPhone OS 7_0_3 Mac OS X AppleWebKit/537 (KHTML, like Gecko) Mobile"
    " Safari/537": ("IE Mobile", "person"),
    "Mozilla/5.0 (Linux; Android 9; KFMAWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/108.4.6 like"
    " Chrome/108.0.5359.220 Safari/537.36": ("Amazon Silk", "person"),
    "Mozilla/5.0 (SMART-TV; Linux; Tizen 5.0) AppleWebKit/538.1 (KHTML, like Gecko) Version/5.0"
    " TV Safari/538.1": ("Safari", "person"),
    "Lynx/2.8.9rel.1 libwww-FM/2.14 SSL-MM/1.4.1 GNUTLS/3.7.1": ("Lynx", "person"),
    "MyChat/12 CFNetwork/1494.0.7 Darwin/23.4.0": ("MyChat", "person"),
    "Mozilla/5.0 (Windows NT 10.0)": ("", "person"),
    # Crawlers, monitors, feed readers and what looks at links by itself.
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": ("Googlebot", "crawler"),
    "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/126.0.6478.61 Mobile Safari/537.36 (compatible; Googlebot/2.1;"
    " +http://www.google.com/bot.html)": ("Googlebot", "crawler"),
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0;"
    " +http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36": ("bingbot", "crawler"),
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)": ("YandexBot", "crawler"),
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)": (
        "Baiduspider",
        "crawler",
    ),
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)": ("AhrefsBot", "crawler"),
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2;"
    " +https://openai.com/gptbot)": ("GPTBot", "crawler"),
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0;"
    " +claudebot@anthropic.com)": ("ClaudeBot", "crawler"),
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)": ("FacebookBot", "crawler"),
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)": ("Slackbot-LinkExpanding", "crawler"),
    "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)": ("UptimeRobot", "crawler"),
    "Scrapy/2.11.2 (+https://scrapy.org)": ("Scrapy", "crawler"),
    "Tiny Tiny RSS/1.11 (http://tt-rss.org/)": ("Tiny Tiny RSS", "crawler"),
    "UniversalFeedParser/4.2-pre-314-svn +http://feedparser.org/": ("", "crawler"),
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0.0.0"
    " Safari/537.36": ("HeadlessChrome", "crawler"),
    "Feedfetcher-Google; (+http://www.google.com/feedfetcher.html; 22 subscribers)": ("", "crawler"),
    "Mozilla/5.0 (compatible; AcmeCheck/1.0; +https://acme.example/check)": ("", "crawler"),
    # Programs: ua-parser knows these ...
    "curl/8.4.0": ("curl", "api_client"),
    "Wget/1.21.4": ("Wget", "api_client"),
    "python-requests/2.32.3": ("Python Requests", "api_client"),
    "Python/3.12 aiohttp/3.9.5": ("Python aiohttp", "api_client"),
    "Python-urllib/3.12": ("Python-urllib", "api_client"),
    "okhttp/4.12.0": ("okhttp", "api_client"),
    "Go-http-client/2.0": ("Go-http-client", "api_client"),
    "axios/1.7.2": ("axios", "api_client"),
    "PostmanRuntime/7.39.0": ("PostmanRuntime", "api_client"),
    "Java/17.0.11": ("Java", "api_client"),
    "Apache-HttpClient/4.5.14 (Java/17.0.11)": ("Apache-HttpClient", "api_client"),
    "libwww-perl/6.77": ("libwww-perl", "api_client"),
    "Boto3/1.34.131 md/Botocore#1.34.131": ("Boto3", "api_client"),
    "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.22621.2506": (
        "WindowsPowerShell",
        "api_client",
    ),
    # ... and these it does not.
    "Mozilla/5.0 (Windows NT 10.0; Microsoft Windows 10.0.22631; en-US) PowerShell/7.4.0": ("", "api_client"),
    "python-httpx/0.27.0": ("", "api_client"),
    "python-urllib3/2.2.2": ("", "api_client"),
    "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)": ("", "api_client"),
    "node": ("", "api_client"),
    "OpenAI/Python 1.35.3": ("", "api_client"),
    "Faraday v2.9.2": ("", "api_client"),
    "Symfony HttpClient/Curl": ("", "api_client"),
    "kube-probe/1.30": ("", "api_client"),
    # Nobody knows these.
    "": ("", ""),
    "-": ("", ""),
    "Mozilla/5.0": ("", ""),
    "AcmeBackend/1.2": ("", ""),
    "\x00\x01": ("", ""),
    "日本語": ("", ""),
}


@pytest.mark.parametrize(("user_agent", "expected"), CLIENTS.items())
def test_a_user_agent_names_browser_and_client_class(user_agent: str, expected: tuple[str, str]) -> None:
    assert client(user_agent) == expected


@pytest.mark.parametrize(
    "user_agent",
    [
        *CLIENTS,
        *(f"{user_agent} foobot" for user_agent in CLIENTS),
        *(f"{'x' * 210} {user_agent}" for user_agent in CLIENTS),
        "x" * 1000,
        "Mozilla/5.0 (" + "Android; " * 100,
    ],
)
def test_the_fast_parser_says_what_user_agents_says(user_agent: str) -> None:
    fast, slow = ParsedUserAgent(user_agent), UserAgent(user_agent)
    assert (fast.browser, fast.os, fast.device) == (slow.browser, slow.os, slow.device)
    for question in ("is_bot", "is_mobile", "is_tablet", "is_pc", "is_touch_capable", "is_email_client"):
        assert getattr(fast, question) == getattr(slow, question), question
    assert str(fast) == str(slow)


def test_a_robots_name_at_the_end_does_not_make_a_crawler_of_a_person() -> None:
    chrome = next(iter(CLIENTS))
    assert client(f"{chrome} foobot")[1] == "person"


@given(st.text(max_size=200))
def test_no_user_agent_makes_the_parser_fail(user_agent: str) -> None:
    family, client_class = client(user_agent)
    assert family != "Other"
    assert client_class in ("person", "crawler", "api_client", "")


def test_a_lone_surrogate_is_no_reason_to_fail() -> None:
    assert client("curl/8.4.0 \ud800") == ("curl", "api_client")


def test_the_lists_of_products_hold_names_as_they_are_looked_up() -> None:
    for product in browser.API_CLIENT_PRODUCTS | browser.CRAWLER_PRODUCTS:
        assert client(f"{product.upper()}/1.2")[1] == client(f"{product} 1.2")[1] != "", product
