#!/usr/bin/env bash
# Records what a terminal of 80 columns shows of a first hour with esclab, as text:
#
#   make build && docs/terminal/record.sh > docs/terminal/session.txt
#
# It needs tmux, and a few minutes for one run of demo, which it interrupts and
# continues on the way. Everything happens in a temporary directory.
set -euo pipefail
program=$(cd "${1:-$(dirname "$0")/../../bin}" && pwd)
tmp=$(mktemp -d)
socket=esclab-record-$$
on() { tmux -L "$socket" "$@"; }
trap 'on kill-server 2>/dev/null || true; rm -rf "$tmp"' EXIT
mkdir "$tmp/work"
on -f /dev/null new-session -d -x 80 -y 40 \
  "cd '$tmp/work' && env ESCLAB_DATA_DIR='$tmp/esclab' PATH='$program:$PATH' PS1='\$ ' TERM=screen bash --norc"

# shown gives the screen, the directories as a user has them.
shown() { on capture-pane -p | sed -e "s#$tmp/esclab#~/.local/share/esclab#g" -e "s#$tmp/work/##g" -e "s#$(id -un)@$(hostname)#you@laptop#g" -e 's/[ \t]*$//' | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'; }
# until waits for a text on the screen.
until_shown() {
  for _ in $(seq 1200); do
    if on capture-pane -p | grep -Eq -- "$1"; then return; fi
    sleep 0.5
  done
  echo "record.sh: never shown: $1" >&2
  shown >&2
  exit 1
}
frame() { printf '\n### %s\n\n' "$1"; shown; }
enter() { on clear-history; on send-keys -R "clear" Enter; sleep 1; on send-keys "$1" Enter; }
prompt='^\$ ?$'

echo 'Recorded by docs/terminal/record.sh: what a terminal of 80 columns shows.'
enter 'esclab run demo'
until_shown 'sft/[a-z]+ .*loss .*ETA'
until_shown '^queued: '
frame 'esclab run demo, while it trains'
on send-keys C-c
until_shown "$prompt"
frame 'Ctrl-C'
enter 'esclab run demo'
until_shown 'loss .*ETA'
frame 'The same command again: it goes on at the last checkpoint'
until_shown '^more '
until_shown "$prompt"
frame 'The end of a run is its answer'
enter 'esclab status'
until_shown 'One run: esclab status RUN'
frame 'All runs'
enter 'esclab status dem'
until_shown 'is done'
frame 'A run by how its name begins, with nothing up'
enter 'esclab run demo --set dpo.roles.sp.beta=0.3 --plan'
until_shown '^check: '
until_shown "$prompt"
frame 'What a changed field costs'
enter 'esclab report nothing'
until_shown 'there is no run'
until_shown "$prompt"
frame 'A run that is not there'
