#!/usr/bin/env bash
# What a card makes of this program, in one command of under ten minutes, on a GPU host that has no Go: everything it runs
# was built by `make gpu-build` and lies beside it. Each section has its time and says what it took; what fails or does
# not end in time is said in the report and in the exit code, and the rest goes on.
#
#   run.sh [OUT]        results: OUT/report.md, OUT/report.json and what they are made of (default: results)
#
#   repeat    90 s      kernels: the same bits from process to process, golden logits, gradients, tokens drawn on the device
#   small    190 s      SMALL's shape: equal sequences and SP-SFT, beside the peer; then each of TOGGLES
#   large    200 s      LARGE's shape: equal sequences, beside the peer
#   decode    60 s      LARGE's shape: decoding with each of SLOTS, sampled by top-p
#
#   SECTIONS="repeat small large decode"    which of them
#   TOGGLES="joint attention beside sampling autotune"  changes to measure the small shape without, and autotuned kernels with
#   ENGINE=xla:cuda     or an absolute plugin, xla:/path/to/plugin.so, for a rehearsal without a card
#   PYTHON=python3      with torch, transformers and peft, for the peer; without them ours is measured alone
#   SMALL=qwen2.5-0.5b SMALL_BATCH=16 SMALL_LENGTH=512   LARGE=qwen2.5-7b LARGE_BATCH=8 LARGE_LENGTH=1024
#   PACK=8192           tokens of a micro-batch
#   SLOTS=64,256 PROMPT=256 NEW=64
#   DTYPE=bfloat16 STEPS=3 DIALOGUES=20 PEAK=989e12 (operations a second that count as 100 % in MFU)
#   CORPUS=…            directory of train.json, valid.json, test.json (default: the sample corpus)
#   SECONDS_REPEAT=90 SECONDS_SMALL=190 SECONDS_LARGE=200 SECONDS_DECODE=60
# Where jax's plugin is no active environment's: ESCLAB_SITE_PACKAGES=/path/to/site-packages
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-results}
mkdir -p "$out" && out=$(cd "$out" && pwd)
SECTIONS=${SECTIONS:-repeat small large decode} TOGGLES=${TOGGLES-joint attention beside sampling autotune}
ENGINE=${ENGINE:-xla:cuda} PYTHON=${PYTHON:-python3} DTYPE=${DTYPE:-bfloat16} PEAK=${PEAK:-989e12}
SMALL=${SMALL:-qwen2.5-0.5b} SMALL_BATCH=${SMALL_BATCH:-16} SMALL_LENGTH=${SMALL_LENGTH:-512}
LARGE=${LARGE:-qwen2.5-7b} LARGE_BATCH=${LARGE_BATCH:-8} LARGE_LENGTH=${LARGE_LENGTH:-1024}
PACK=${PACK:-8192} SLOTS=${SLOTS:-64,256} PROMPT=${PROMPT:-256} NEW=${NEW:-64} STEPS=${STEPS:-3} DIALOGUES=${DIALOGUES:-20}
SECONDS_REPEAT=${SECONDS_REPEAT:-90} SECONDS_SMALL=${SECONDS_SMALL:-190} SECONDS_LARGE=${SECONDS_LARGE:-200} SECONDS_DECODE=${SECONDS_DECODE:-60}
export GOMLX_NO_AUTO_INSTALL=1
status=0
names=()
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
peer=
if "$PYTHON" -c 'import torch, transformers, peft' 2>"$out/peer.log"; then
	peer="$PYTHON $here/peer.py"
else
	echo "no peer: $(tail -n 1 "$out/peer.log")"
fi
corpus=()
[ -z "${CORPUS:-}" ] || corpus=(--corpus "$CORPUS")

# begin SECONDS: a section that has so long; left is what remains of it, 1 at least.
begin() { ends=$((SECONDS + $1)); }
left() { local n=$((ends - SECONDS)); echo $((n > 1 ? n : 1)); }
# measure NAME SHAPE ARGS…: one bench lm within what is left of the section.
measure() {
	local name=$1 shape=$2 from=$SECONDS
	shift 2
	names+=("$name")
	[ -z "$sampler" ] || echo "name $name" >>"$out/memory.csv"
	if timeout "$(left)" "$here/esclab-worker" bench lm --engine "$ENGINE" --dtype "$DTYPE" --config "$here/$shape/config.json" \
		"${corpus[@]}" --steps "$STEPS" --dialogues "$DIALOGUES" --pack-tokens "$PACK" --max-tokens "$PACK" --data "$out/data" --json "$@" \
		>"$out/$name.json" 2>"$out/$name.log"; then
		echo "$name took $((SECONDS - from)) s"
	else
		echo "$name FAILED after $((SECONDS - from)) s: $(tail -n 1 "$out/$name.log")"
		status=1
	fi
}

for section in $SECTIONS; do
	echo "== $section"
	case $section in
	repeat)
		begin "$SECONDS_REPEAT"
		# Golden logits and files of ../shared are looked for beside the bundle; what is absent is skipped, and says so.
		if (cd "$here/lm" && ESCLAB_TEST_ENGINE=$ENGINE timeout "$(left)" ./lm.test -test.v \
			-test.run '^(TestOpenEngine|TestEnginesRepeat|TestGoldenLogits|TestBFloat16Adapted|TestBFloat16Gradients|TestDrawGraph|TestGenerateHalf|TestGenerateDrawnOnDevice|TestGenerateStopsOnDevice)$') \
			>"$out/repeat.log" 2>&1; then
			echo "passed"
		else
			echo "FAILED: $out/repeat.log"
			status=1
		fi
		;;
	small)
		begin "$SECONDS_SMALL"
		equal=(--workloads equal --batch "$SMALL_BATCH" --length "$SMALL_LENGTH")
		measure small "$SMALL" --workloads equal,sp-sft --batch "$SMALL_BATCH" --length "$SMALL_LENGTH" ${peer:+--peer "$peer"}
		for toggle in $TOGGLES; do
			case $toggle in
			autotune) ESCLAB_XLA_AUTOTUNE=1 measure small-autotune "$SMALL" "${equal[@]}" ;;
			sampling)
				for without in "" sampling; do
					measure "small-decode${without:+-without-$without}" "$SMALL" --workloads generate --slots "${SLOTS%%,*}" \
						--prompt-tokens "$PROMPT" --new "$NEW" --top-p 0.95 --without "$without"
				done
				;;
			*) measure "small-without-$toggle" "$SMALL" "${equal[@]}" --without "$toggle" ;;
			esac
		done
		;;
	large)
		begin "$SECONDS_LARGE"
		measure large "$LARGE" --workloads equal --batch "$LARGE_BATCH" --length "$LARGE_LENGTH" ${peer:+--peer "$peer"}
		;;
	decode)
		begin "$SECONDS_DECODE"
		measure large-decode "$LARGE" --workloads generate --slots "$SLOTS" --prompt-tokens "$PROMPT" --new "$NEW" --top-p 0.95
		;;
	*)
		echo "there is no section $section"
		status=1
		;;
	esac
done
"$PYTHON" "$here/report.py" "$out" --peak "$PEAK" --names "${names[@]}" || status=1
cat "$out/report.md" 2>/dev/null
echo "all of it took $SECONDS s"
exit $status
