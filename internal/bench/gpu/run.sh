#!/usr/bin/env bash
# Tests and benchmarks on a GPU host that has no Go: everything it runs was built by `make gpu-build` and lies beside
# it. One command, under ten minutes. What fails is said in the report and in the exit code; the rest goes on.
#
#   run.sh [OUT]        results: OUT/report.md, OUT/report.json and what they are made of (default: results)
#
#   ENGINE=xla:cuda     or an absolute plugin, xla:/path/to/plugin.so; go for a trial without a card
#   PYTHON=python3      with torch, transformers and peft, for the peer; without them ours is measured alone
#   SHAPES="qwen2.5-0.5b qwen2.5-1.5b qwen2.5-7b"
#   DTYPE=bfloat16      of the base model
#   CORPUS=…            directory of train.json, valid.json, test.json (default: the sample corpus)
#   BATCH=16 STEPS=3 DIALOGUES=20 SLOTS=16 NEW=32
#   PEAK=989e12         operations a second that count as 100 % in MFU: H100 and H200, dense bfloat16
#   SECONDS_TESTS=120 SECONDS_SHAPE=140    limits
# Where jax's plugin is no active environment's: ESCLAB_SITE_PACKAGES=/path/to/site-packages
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-results}
mkdir -p "$out" && out=$(cd "$out" && pwd)
ENGINE=${ENGINE:-xla:cuda} PYTHON=${PYTHON:-python3} DTYPE=${DTYPE:-bfloat16} PEAK=${PEAK:-989e12}
SHAPES=${SHAPES:-qwen2.5-0.5b qwen2.5-1.5b qwen2.5-7b}
BATCH=${BATCH:-16} STEPS=${STEPS:-3} DIALOGUES=${DIALOGUES:-20} SLOTS=${SLOTS:-16} NEW=${NEW:-32}
SECONDS_TESTS=${SECONDS_TESTS:-120} SECONDS_SHAPE=${SECONDS_SHAPE:-140}
export GOMLX_NO_AUTO_INSTALL=1
status=0
rm -f "$out"/*.json "$out"/*.log "$out"/*.csv

# The memory of the card by process, four times a second: XLA does not tell.
sampler=
if command -v nvidia-smi >/dev/null; then
	nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv >"$out/device.csv" 2>&1
	(while :; do
		nvidia-smi --query-compute-apps=process_name,used_memory --format=csv,noheader,nounits 2>/dev/null
		sleep 0.25
	done) >"$out/memory.csv" &
	sampler=$!
	trap 'kill "$sampler" 2>/dev/null' EXIT
else
	echo "no nvidia-smi: the card's memory is not measured"
fi

echo "== tests on $ENGINE"
# Golden logits and files of ../shared are looked for beside the bundle; what is absent is skipped, and says so.
if (cd "$here/lm" && ESCLAB_TEST_ENGINE=$ENGINE timeout "$SECONDS_TESTS" ./lm.test -test.v \
	-test.run '^(TestOpenEngine|TestGoldenLogits|TestPackingExactLoRA|TestPackingExactBlocks|TestResume|TestGenerateGreedy|TestEnginesAgree|TestEnginesRepeat|TestBFloat16Activations|TestBFloat16Gradients|TestBFloat16Dropout|TestDropoutNoise)$') \
	>"$out/tests.log" 2>&1; then
	echo "passed"
else
	echo "FAILED: $out/tests.log"
	status=1
fi

peer=
if "$PYTHON" -c 'import torch, transformers, peft' 2>"$out/peer.log"; then
	peer="$PYTHON $here/peer.py"
else
	echo "no peer: $(tail -n 1 "$out/peer.log")"
fi
corpus=()
[ -z "${CORPUS:-}" ] || corpus=(--corpus "$CORPUS")
for shape in $SHAPES; do
	echo "== $shape"
	begin=$(date +%s.%N)
	[ -z "$sampler" ] || echo "shape $shape" >>"$out/memory.csv"
	bench=(timeout "$SECONDS_SHAPE" "$here/esclab-worker" bench lm --engine "$ENGINE" --dtype "$DTYPE" --config "$here/$shape/config.json"
		"${corpus[@]}" --batch "$BATCH" --steps "$STEPS" --dialogues "$DIALOGUES" --slots "$SLOTS" --new "$NEW"
		--workloads sp-sft,vm-dpo,vm-generate --packing both --export "$out/$shape.data" --json)
	if ! "${bench[@]}" ${peer:+--peer "$peer"} >"$out/$shape.json" 2>"$out/$shape.log"; then
		echo "FAILED: $(tail -n 1 "$out/$shape.log")"
		status=1
		continue
	fi
	if [ -n "$peer" ]; then
		prompt=$("$PYTHON" "$here/report.py" prompt "$out/$shape.json")
		timeout "$SECONDS_SHAPE" $peer generate --config "$here/$shape/config.json" --prompt "$prompt" --new "$NEW" --batch "$SLOTS" \
			>"$out/$shape.generate.json" 2>>"$out/$shape.log" || { echo "peer's generate() FAILED: $(tail -n 1 "$out/$shape.log")"; status=1; }
	fi
	echo "took $(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { printf "%.0f s", b - a }')"
done
"$PYTHON" "$here/report.py" report "$out" --peak "$PEAK" --shapes $SHAPES || status=1
cat "$out/report.md" 2>/dev/null
exit $status
