#!/usr/bin/env bash
# Write constraints.txt: the newest versions that fit settings.ini, all extras included. They are found on the oldest Python that is
# promised, so that there is one list for all; `make pythons` shows that the others can install it.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
oldest=$(sed -n 's/^min_python = //p' settings.ini)
"${PYTHON:-$(scripts/interpreter.sh "$oldest")}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --upgrade pip
"$work/venv/bin/python" -m pip install ".[embedded,postgres,lab,documents,vectors,multilingual,datasets,sheets,hub,otel,ray,docs,dev]"
{
  echo "# Versions that are tested together. Refresh: make lock"
  "$work/venv/bin/python" -m pip freeze --exclude cerebro-nb
} > constraints.txt
