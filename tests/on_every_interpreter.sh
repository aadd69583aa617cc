#!/bin/sh
# Run the unit tests on every CPython from 3.11 on that is installed here, side by side, each in an environment of its
# own. All but the one that `make test` runs them on, if `--others` is given.
set -eu
cd "$(dirname "$0")/.."

done_minors=" "
[ "${1:-}" != --others ] || done_minors=" $(uv run --quiet --locked --extra embedded --group dev python -c 'import sys; print(sys.version_info.minor)') "
outputs=$(mktemp -d)
trap 'rm -rf "$outputs"' EXIT

for name in 11 12 13 14 15; do
    for python in "$(command -v python3.$name || true)" ${PYENV_ROOT:+"$PYENV_ROOT"/versions/3.$name.*/bin/python}; do
        # A shim may be on PATH for a Python that is not there.
        [ -x "$python" ] && "$python" -c '' 2>/dev/null || continue
        case "$done_minors" in *" $name "*) continue ;; esac
        done_minors="$done_minors$name "
        (
            status=0
            # To compile all that is installed takes longer than what the tests import of it. Of a unit test a third is waiting.
            uv run --quiet --locked --isolated --no-compile-bytecode --python "$python" --extra embedded --group test \
                pytest -q -n 2 tests/unit >"$outputs/$name" 2>&1 || status=$?
            echo "== Python 3.$name: $python"
            cat "$outputs/$name"
            exit "$status"
        ) &
        running="${running:-} $!"
    done
done
[ "$done_minors" != " " ] || { echo "No Python from 3.11 on was found." >&2; exit 1; }

status=0
for pid in ${running:-}; do
    wait "$pid" || status=1
done
exit "$status"
