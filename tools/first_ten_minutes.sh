#!/usr/bin/env bash
# The first ten minutes of a newcomer: every command of README.md and docs/*.md, in a fresh environment without PyTorch,
# in terminals of 80 and 120 columns and with its output in files. What it prints is compared with the record in
# tests/data/first_ten_minutes/: paths, numbers and facts of the machine are left out of it.
#
# Run: tools/first_ten_minutes.sh [--record] [--python VENV] [--page PAGE]...
#      tools/first_ten_minutes.sh --quick [--record]
#   --record  writes the record instead of comparing; look at the difference before you commit it
#   --python  takes an environment that has rrid-edge[cpu], instead of a new one with the wheel of this checkout
#   --page    walks this page only, for example README.md; can be repeated
#   --quick   walks three pages, at 80 columns and in files, with the packages that PYTHON has; the tests do this
#
# Set PYTHON to another Python than .venv/bin/python or python3. A command that the record does not know fails the walk.
# tools/first_ten_minutes/reasons.toml says which commands do not run, and why. It takes about four minutes on two cores.
#
# Exit codes: 0 all is as recorded, or the record was written without a fault; 1 something differs; 2 wrong use.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
usage() { sed -n '2,18s/^# \{0,1\}//p' "$0"; }
VENV='' QUICK=''
WALK=()
while [ $# -gt 0 ]; do
  case $1 in
    --record) WALK+=("$1"); shift ;;
    --quick) WALK+=("$1"); QUICK=yes; shift ;;
    --page) [ $# -ge 2 ] || { usage >&2; exit 2; }; WALK+=("$1" "$2"); shift 2 ;;
    --python) [ $# -ge 2 ] || { usage >&2; exit 2; }; VENV=$2; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python
fi
export PYTHONPATH=$ROOT/tools
if [ -n "$QUICK" ]; then
  exec "$PYTHON" -m first_ten_minutes ${WALK[@]+"${WALK[@]}"}
fi
if [ -z "$VENV" ]; then
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  VENV=$WORK/venv
  "$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$WORK" "$ROOT"
  "$PYTHON" -m venv "$VENV"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check "$(echo "$WORK"/rrid_edge-*.whl)[cpu]"
fi
[ -x "$VENV/bin/rrid-edge" ] || { echo "$VENV: no rrid-edge in it; install rrid-edge[cpu] there" >&2; exit 2; }
if "$VENV/bin/python" -c 'import torch' 2>/dev/null; then
  echo "$VENV: PyTorch is installed; expected an environment without it" >&2
  exit 2
fi
"$VENV/bin/python" -m first_ten_minutes --programs "$VENV/bin" ${WALK[@]+"${WALK[@]}"}
