#!/bin/sh
# Run the unit tests on every CPython from 3.11 on that is installed here, each in an environment of its own.
set -eu
cd "$(dirname "$0")/.."

done_minors=" "
for name in 11 12 13 14 15; do
    for python in "$(command -v python3.$name || true)" ${PYENV_ROOT:+"$PYENV_ROOT"/versions/3.$name.*/bin/python}; do
        # A shim may be on PATH for a Python that is not there.
        [ -x "$python" ] && "$python" -c '' 2>/dev/null || continue
        case "$done_minors" in *" $name "*) continue ;; esac
        done_minors="$done_minors$name "
        echo "== Python 3.$name: $python"
        uv run --quiet --locked --isolated --python "$python" --extra embedded --group test pytest -q tests/unit
    done
done
[ "$done_minors" != " " ] || { echo "No Python from 3.11 on was found." >&2; exit 1; }
