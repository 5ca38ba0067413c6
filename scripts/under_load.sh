#!/bin/sh
# Runs a command while every core is kept busy by a process of its own, which ends with this script however that ends:
#   scripts/under_load.sh .venv/bin/python -m pytest tests/test_endpoints.py
set -u
busy=
for _ in $(seq "$(getconf _NPROCESSORS_ONLN)"); do
    while kill -0 $$ 2>/dev/null; do :; done &
    busy="$busy $!"
done
trap 'kill $busy; wait $busy 2>/dev/null' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
"$@"
