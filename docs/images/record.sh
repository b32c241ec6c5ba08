#!/usr/bin/env bash
# Makes the pictures of the report anew, from the report of a run of demo:
#
#   make demo && docs/images/record.sh out/demo/report/report.html docs/images
#
# It needs chromium.
set -euo pipefail
report=$(realpath "$1")
out=$(realpath "$2")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# picture NAME HEIGHT PART: what a window of 1,280 pixels shows of the report, from a
# part on. A frame goes to the part; the browser's own window would stay at the top.
picture() {
  echo "<!DOCTYPE html><body style='margin:0'><iframe src='file://$report$3' style='display:block;border:0;width:1280px;height:$2px'></iframe>" > "$tmp/frame.html"
  chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --allow-file-access-from-files --user-data-dir="$tmp/profile" \
    --window-size=1280,"$2" --virtual-time-budget=10000 --screenshot="$out/$1.png" "file://$tmp/frame.html" 2> "$tmp/log" || { cat "$tmp/log" >&2; exit 1; }
}
picture report 1120 ''
picture figures 1150 '#strategies'
picture samples 900 '#samples'
