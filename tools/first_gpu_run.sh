#!/usr/bin/env bash
# The first half hour on a GPU: builds, proves, compares and measures every kind of engine, and packs what a maintainer
# needs to read into one archive.
#
# Run: tools/first_gpu_run.sh MODELS CROPS [OUT]
#   MODELS  folder with exported ONNX files (rrid.onnx, rrid.fp16.onnx, rrid.int8.onnx) and their goldens
#   CROPS   folder of real crops, on which engines are compared with the ONNX files
#   OUT     folder to write; default: first-gpu-run-HOST-TIME in the current folder. The archive is OUT.tgz.
#
# Every step has its own time limit. The run goes on after a failure. Steps whose program or package is absent are
# skipped.
# Set ONLY to a pattern of bash to run some steps; most need the builds: ONLY='@(1*|2*)' tools/first_gpu_run.sh ...
# Set PYTHON to the Python that has the dependencies of rrid-edge; default: python3. The code is that of this checkout.
#
# Exit codes: 0 every step passed or was skipped; 1 some failed, their names are printed; 2 wrong use; 3 no GPU that
# TensorRT can use. The archive holds logs, sidecars and reports: no crops, no models, no engines. Reports and logs can
# name files of CROPS.
set -u

usage() { sed -n '2,20s/^# \{0,1\}//p' "$0"; }
[ $# -ge 2 ] && [ $# -le 3 ] || { usage >&2; exit 2; }
MODELS=$1 CROPS=$2 OUT=${3:-first-gpu-run-$(uname -n)-$(date +%Y%m%d-%H%M%S)}
for folder in "$MODELS" "$CROPS"; do
  [ -d "$folder" ] || { echo "$folder: there is no such folder" >&2; usage >&2; exit 2; }
done
[ -e "$OUT" ] && { echo "$OUT: this exists already; name another folder" >&2; exit 2; }
TOOLS=$(cd "$(dirname "$0")" && pwd)
ROOT=$(dirname "$TOOLS")
PYTHON=${PYTHON:-python3}
PATH=$PATH:/usr/src/tensorrt/bin  # trtexec on a Jetson
# What runs is the code of this checkout: PYTHON has to have its dependencies only.
export PYTHONPATH=$ROOT:$ROOT/train:$ROOT/export:$ROOT/calib${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$OUT/models" "$OUT/logs" || exit 2
OUT=$(cd "$OUT" && pwd)
STEPS=$OUT/steps.tsv
printf 'step\tcode\tseconds\tcommand\n' >"$STEPS"

# -- running steps -----------------------------------------------------------------------------------------------------

# shellcheck disable=SC2053  # ONLY is a pattern
wanted() { [[ $1 == ${ONLY:-*} ]]; }

# step NAME LIMIT COMMAND...: run a command for at most LIMIT seconds; what it and TensorRT say goes to files.
step() {
  local name=$1 limit=$2 code start
  shift 2
  wanted "$name" || return 0
  echo "== $name: $*"
  start=$(date +%s)
  RRID_EDGE_TENSORRT_LOG=$OUT/logs/$name.tensorrt.log \
    timeout --kill-after=20 "$limit" "$@" >"$OUT/logs/$name.txt" 2>&1 </dev/null
  code=$?
  printf '%s\t%s\t%s\t%s\n' "$name" "$code" $(($(date +%s) - start)) "$*" >>"$STEPS"
  echo "   exit code $code; $(tail -n 1 "$OUT/logs/$name.txt")"
  return $code
}

# optional NAME LIMIT COMMAND...: the same; exit code 3 says that a package is absent, which is no failure.
# shellcheck disable=SC2329  # edge calls it
optional() {
  step "$@"
  local code=$?
  [ "$code" = 3 ] && wanted "$1" && sed -i "s/^\($1\t\)3\t/\1skipped\t/" "$STEPS"
  return "$code"
}

# skip NAME REASON: note a step that cannot run here.
skip() {
  wanted "$1" || return 0
  echo "== $1: skipped, $2"
  printf '%s\tskipped\t0\t%s\n' "$1" "$2" >>"$STEPS"
}

# edge KIND NAME LIMIT ARGUMENT...: a command of rrid-edge as a step or an optional step.
edge() {
  local kind=$1 name=$2 limit=$3
  shift 3
  "$kind" "$name" "$limit" "$PYTHON" -m rrid_edge.cli "$@"
}

# built NAME FILE: whether a file that a step needs is there; if not, the step is noted as skipped.
built() {
  [ -f "$2" ] && return 0
  skip "$1" "there is no $(basename "$2"): its build failed"
  return 1
}

# -- the models --------------------------------------------------------------------------------------------------------

# The engines go beside copies: MODELS stays as it is, and a later run cannot take an earlier engine for its own.
for file in "$MODELS"/*; do
  case $file in
    *.engine | *.engine.* | *.plan | *.plan.* | *.rtx | *.rtx.* | *.timing | *parity*) ;;
    *) [ -f "$file" ] && { cp "$file" "$OUT/models/" || exit 2; } ;;
  esac
done

# onnx_of PRECISION: the ONNX file of a precision, or nothing. A name without a precision is float32.
onnx_of() {
  local file
  for file in "$OUT"/models/*.onnx; do
    case $file in
      *.fp16.onnx) [ "$1" = fp16 ] && echo "$file" && return ;;
      *.cpu.int8.onnx) ;; # TensorRT does not read it
      *.int8.onnx) [ "$1" = int8 ] && echo "$file" && return ;;
      *) [ "$1" = fp32 ] && [ -f "$file" ] && echo "$file" && return ;;
    esac
  done
}

# engine_of ONNX PRECISION [FOLDER]: where export writes the engine.
engine_of() {
  local name
  name=$(basename "$1" .onnx)
  echo "${3:-$(dirname "$1")}/${name%."$2"}.$2.engine"
}

FP16=$(onnx_of fp16) INT8=$(onnx_of int8) FP32=$(onnx_of fp32)
BEST=${FP16:-${FP32:-$INT8}} BEST_PRECISION=fp16
if [ -z "$BEST" ]; then
  echo "$MODELS: there is no ONNX file; write one with: rrid-edge export CHECKPOINT --fp16" >&2
  exit 2
fi
[ "$BEST" = "$FP32" ] && BEST_PRECISION=fp32
[ "$BEST" = "$INT8" ] && BEST_PRECISION=int8
ENGINE=$(engine_of "$BEST" $BEST_PRECISION)
GOLDENS=$(find "$OUT/models" -name '*.goldens.npz' | sort | head -n 1)

# -- 0 to 2 minutes: what is here --------------------------------------------------------------------------------------

step 00-environment 180 "$PYTHON" "$TOOLS/gpu_environment.py"
edge step 01-doctor 60 doctor
step 02-device 60 "$PYTHON" "$TOOLS/gpu_environment.py" --device
DEVICE=$?

# -- to 12 minutes: the three builds, and one again with the kernel times of the first ---------------------------------

for precision in fp16 int8 fp32; do
  onnx=$(onnx_of $precision)
  if [ -n "$onnx" ]; then
    edge step 1$precision-build 900 export "$onnx"
  else
    skip 1$precision-build "MODELS has no $precision file"
  fi
done
edge step 1again-build 900 export "$BEST"

# -- to 16 minutes: are they right? ------------------------------------------------------------------------------------

for precision in fp16 int8 fp32; do
  onnx=$(onnx_of $precision)
  [ -n "$onnx" ] || continue
  engine=$(engine_of "$onnx" $precision)
  built 20-parity-$precision "$engine" && edge step 20-parity-$precision 300 parity "$engine"
done
built 21-graphs "$ENGINE" && step 21-graphs 300 "$PYTHON" "$TOOLS/compare_graphs.py" "$ENGINE"
if [ -n "$FP32" ]; then  # on the CPU, so a package for it may be absent
  built 22-parity-on-crops "$ENGINE" &&
    edge optional 22-parity-on-crops 300 parity "$ENGINE" --reference "$FP32" --images "$CROPS" --count 128 \
      --output "$OUT/logs/22-parity-on-crops.json"
fi
built 23-plain-code "$ENGINE" && step 23-plain-code 120 "$PYTHON" "$TOOLS/check_plain_code.py" "$ENGINE"
built 24-info "$ENGINE" && edge step 24-info 60 info "$ENGINE"

# -- to 20 minutes: how fast, and what trtexec says --------------------------------------------------------------------

built 30-bench "$ENGINE" && edge step 30-bench 600 bench --quick --model "$ENGINE" --chart "$OUT/logs/30-bench.png"
if command -v trtexec >/dev/null; then
  COMMAND=$OUT/logs/31-trtexec-command.sh
  mkdir -p "$OUT/trtexec"
  # shellcheck disable=SC2016  # the inner bash expands it
  step 31-trtexec-command 60 bash -c 'exec "${@:2}" >"$1"' - "$COMMAND" \
    "$PYTHON" -m rrid_edge.cli export "$BEST" --print-trtexec --output "$OUT/trtexec"
  BUILT=$(engine_of "$BEST" $BEST_PRECISION "$OUT/trtexec")
  step 32-trtexec-build 900 bash "$COMMAND"
  built 33-trtexec-adopt "$BUILT" &&
    edge step 33-trtexec-adopt 300 engine adopt "$BUILT" --onnx "$BEST" --crops "$CROPS"
  SHAPE=$(sed -n 's/.*--optShapes=\([^ ]*\).*/\1/p' "$COMMAND" 2>/dev/null)
  built 34-trtexec-load "$ENGINE" &&
    step 34-trtexec-load 300 trtexec --loadEngine="$ENGINE" --shapes="$SHAPE" --useCudaGraph --noDataTransfers
else
  skip 31-trtexec-command "there is no trtexec in PATH"
fi

# -- to 30 minutes: the options, the other runtimes, the tests ---------------------------------------------------------

# variant NAME OPTION...: an engine in a folder of its own, and its parity. Exit code 3: a library is absent.
variant() {
  local name=$1 folder=$OUT/variant-$1 engine
  shift
  mkdir -p "$folder"
  [ "$name" = stripped ] && cp "$BEST" "$folder/"  # it reads its weights there
  edge optional "40-$name-build" 900 export "$BEST" --output "$folder" --timing-cache "$OUT/models" "$@"
  engine=$(engine_of "$BEST" $BEST_PRECISION "$folder")
  built "41-$name-parity" "$engine" &&
    edge step "41-$name-parity" 300 parity "$engine" ${GOLDENS:+--reference "$GOLDENS"}
}
MAJOR=""
if wanted 40-weak-build || wanted 40-stripped-build; then
  MAJOR=$("$PYTHON" -c "import tensorrt; print(tensorrt.__version__.partition('.')[0])" 2>/dev/null)
fi
if [ "$MAJOR" = 11 ]; then skip 40-weak-build "TensorRT 11 has no weak typing"; else variant weak --weak-typing; fi
if [ "$MAJOR" = 8 ]; then skip 40-stripped-build "TensorRT 8.6 cannot"; else variant stripped --strip-weights; fi
variant version-compatible --version-compatible
variant lean-left-out --version-compatible --exclude-lean-runtime
variant tf32 --tf32

edge optional 50-onnxruntime-cuda 300 parity "$BEST" --runtime onnxruntime-cuda \
  --output "$OUT/logs/50-onnxruntime-cuda.json"
edge optional 51-rtx-build 600 export "$BEST" --for rtx --output "$OUT/rtx"
for rtx in "$OUT"/rtx/*.rtx; do
  [ -f "$rtx" ] && edge optional 52-rtx-parity 600 parity "$rtx" ${GOLDENS:+--reference "$GOLDENS"}
done
# One folder: the other tests import PyTorch and more, which a machine that runs engines need not have. TensorRT 8.6
# built the small network of these tests for more than a minute on an H200, and builds it in seven ways.
if [ -d "$ROOT/tests" ] && wanted 60-tests && "$PYTHON" -c "import onnx, onnxruntime, pytest" 2>/dev/null; then
  step 60-tests 1200 env -C "$ROOT" "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider tests/edge/engines/tensorrt
else
  skip 60-tests "onnx, onnxruntime, pytest or the folder tests is not here"
fi
if command -v compute-sanitizer >/dev/null; then
  built 61-memcheck "$ENGINE" && step 61-memcheck 600 compute-sanitizer --tool memcheck --error-exitcode 9 \
    "$PYTHON" "$TOOLS/compare_graphs.py" "$ENGINE" --rounds 3
else
  skip 61-memcheck "there is no compute-sanitizer in PATH"
fi

# -- the archive -------------------------------------------------------------------------------------------------------

"$PYTHON" "$TOOLS/gpu_summary.py" "$OUT"
FAILED=$?
# The summary comes first in the archive, so that it is read first.
NAME=$(basename "$OUT")
cd "$(dirname "$OUT")" || exit 2
{
  printf '%s\0' "$NAME/summary.txt" "$NAME/steps.tsv"
  find "$NAME" -type f \( -path "$NAME/logs/*" -o -name '*.engine*.json' -o -name '*.rtx*.json' \) -print0 | sort -z
} | tar -czf "$OUT.tgz" --null --files-from=-
echo "send $OUT.tgz"
[ "$DEVICE" = 0 ] || exit 3
exit $FAILED
