#!/usr/bin/env bash
# The first ten minutes of a newcomer: every command of README.md and docs/*.md, in a fresh environment without PyTorch,
# in terminals of 80 and 120 columns and with its output in files. What it prints is compared with the record in
# tests/data/first_ten_minutes/: paths, numbers and facts of the machine are left out of it.
#
# There are two walks. The first has rrid-edge[cpu], so it shows what those read who skipped "pip install". The second
# has the extras that a page tells its readers to install, and walks the pages that do so; its records are *.extras.txt.
#
# Run: tools/first_ten_minutes.sh [--record] [--walk first|extras] [--python VENV] [--python-with-extras VENV] [--page PAGE]...
#      tools/first_ten_minutes.sh --quick [--record]
#   --record  writes the record instead of comparing; look at the difference before you commit it
#   --walk    takes one of the two walks only
#   --python, --python-with-extras
#             take an environment that has rrid-edge[cpu], or also the extras, instead of a new one with the wheel of
#             this checkout
#   --page    walks this page only, for example README.md; can be repeated
#   --quick   walks four pages, at 80 columns and in files, with the packages that PYTHON has; the tests do this
#
# Set PYTHON to another Python than .venv/bin/python or python3. A command that the record does not know fails the walk.
# tools/first_ten_minutes/reasons.toml says which commands do not run, and why; extras.toml has the pages, extras and
# commands of the second walk. Both take about eight minutes on two cores.
#
# Exit codes: 0 all is as recorded, or the record was written without a fault; 1 something differs; 2 wrong use.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
usage() { sed -n '2,25s/^# \{0,1\}//p' "$0"; }
VENV='' WITH_EXTRAS='' ONLY='' QUICK='' WORK=''
WALK=()
while [ $# -gt 0 ]; do
  case $1 in
    --record) WALK+=("$1"); shift ;;
    --quick) WALK+=("$1"); QUICK=yes; shift ;;
    --page) [ $# -ge 2 ] || { usage >&2; exit 2; }; WALK+=("$1" "$2"); shift 2 ;;
    --walk)
      case ${2:-} in first | extras) ;; *) usage >&2; exit 2 ;; esac
      WALK+=("$1" "$2"); ONLY=$2; shift 2 ;;
    --python) [ $# -ge 2 ] || { usage >&2; exit 2; }; VENV=$2; shift 2 ;;
    --python-with-extras) [ $# -ge 2 ] || { usage >&2; exit 2; }; WITH_EXTRAS=$2; shift 2 ;;
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

# environment FOLDER EXTRAS [PACKAGE]...: makes a virtual environment with the wheel of this checkout
environment() {
  if [ -z "$WORK" ]; then
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    "$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$WORK" "$ROOT"
  fi
  "$PYTHON" -m venv "$WORK/$1"
  "$WORK/$1/bin/pip" install --quiet --disable-pip-version-check "$(echo "$WORK"/rrid_edge-*.whl)$2" "${@:3}"
}
# fit VENV EXTRAS: refuses an environment that does not show what a newcomer sees
fit() {
  [ -x "$1/bin/rrid-edge" ] || { echo "$1: no rrid-edge in it; install rrid-edge$2 there" >&2; exit 2; }
  if "$1/bin/python" -c 'import torch' 2>/dev/null; then
    echo "$1: PyTorch is installed; expected an environment without it" >&2
    exit 2
  fi
}

RUN=''
if [ "$ONLY" != extras ]; then
  [ -n "$VENV" ] || { environment first '[cpu]'; VENV=$WORK/first; }
  fit "$VENV" '[cpu]'
  WALK+=(--programs "$VENV/bin") RUN=$VENV/bin/python
fi
if [ "$ONLY" != first ]; then
  # Python 3.10 reads TOML with the package tomli, which the first environment has.
  mapfile -t NEEDED < <("${RUN:-$PYTHON}" -m first_ten_minutes --requirements)
  [ -n "$WITH_EXTRAS" ] || { environment extras "${NEEDED[@]}"; WITH_EXTRAS=$WORK/extras; }
  fit "$WITH_EXTRAS" "${NEEDED[0]}"
  WALK+=(--programs-with-extras "$WITH_EXTRAS/bin") RUN=$WITH_EXTRAS/bin/python
fi
"$RUN" -m first_ten_minutes ${WALK[@]+"${WALK[@]}"}
