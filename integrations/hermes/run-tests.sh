#!/usr/bin/env bash
# Runs all tests of the Hermes integration, against the real Hermes and the real router. Anything that cannot run is a failure.
#
#   BUSY_ROUTER_BIN           the router's binary          (default ../../target/release/busy-router)
#   BUSY_ROUTER_HERMES_VENV   where the virtualenv is kept (default .venv here)
#   PYTHON                    a Python 3.11 to 3.13        (default: the newest of these that is found)
#
# Arguments go to pytest, so that `./run-tests.sh tests/unit` runs less.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

die() {
  echo "run-tests.sh: $*" >&2
  exit 1
}

BUSY_ROUTER_BIN=$(realpath -m "${BUSY_ROUTER_BIN:-../../target/release/busy-router}")
[ -x "$BUSY_ROUTER_BIN" ] || die "no router at $BUSY_ROUTER_BIN: run 'cargo build --release', or set BUSY_ROUTER_BIN"
export BUSY_ROUTER_BIN

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }
if [ -n "${PYTHON:-}" ]; then
  fits "$PYTHON" || die "$PYTHON is not a Python 3.11 to 3.13"
else
  for PYTHON in python3.13 python3.12 python3.11 python3 ""; do
    [ -n "$PYTHON" ] || die "no Python 3.11 to 3.13 found; set PYTHON"
    if fits "$PYTHON"; then break; fi
  done
fi

venv=$(realpath -m "${BUSY_ROUTER_HERMES_VENV:-.venv}")
stamp="$("$PYTHON" -c 'import sys; print(sys.version)') $(cat requirements-test.txt)"
if [ "$(cat "$venv/stamp" 2>/dev/null || true)" != "$stamp" ]; then
  rm -rf "$venv"
  "$PYTHON" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r requirements-test.txt
  printf '%s' "$stamp" >"$venv/stamp"
fi

# Built from a copy, so that no build folder stays here; apart from Hermes, so that tests can run Hermes without it.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source"
cp -r pyproject.toml README.md src "$work/source/"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target "$work/site" "$work/source"
export BUSY_ROUTER_PLUGIN_SITE="$work/site" PYTHONDONTWRITEBYTECODE=1

"$venv/bin/ruff" check --no-cache .
"$venv/bin/ruff" format --no-cache --check --quiet .
"$venv/bin/mypy" --cache-dir "$work/mypy"
"$venv/bin/python" -m pytest -p no:cacheprovider --basetemp "$work/pytest" "$@"
