#!/bin/sh
# What the tests need from the system: Java 17 or later and Maven (for Apache Kafka), Chromium (for the page). Where there is
# no Chromium yet it is its headless shell, which takes half the time.
# Installs Debian's packages where it may; otherwise says the one line to run.
set -eu

command -v uv >/dev/null || { echo "The tests need uv: python3 -m pip install uv" >&2; exit 1; }

missing=""
java -version 2>&1 | grep -Eq 'version "(1[7-9]|[2-9][0-9])' || missing="$missing default-jre-headless"
command -v mvn >/dev/null || missing="$missing maven"
command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
    missing="$missing chromium-headless-shell"
[ -z "$missing" ] && exit 0

# shellcheck disable=SC2086 # words are meant
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing$missing" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "The tests need$missing. On Debian: sudo apt-get install -y$missing" >&2
    exit 1
fi
