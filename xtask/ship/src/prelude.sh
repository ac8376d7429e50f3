# What every script that a machine gets begins with: root's surroundings, and how it answers. Lines that begin with @drydock
# are the answer; what a login shell prints is none.
# shellcheck shell=sh disable=SC2034
login=${1:-root}
export LC_ALL=C
export PATH="/run/wrappers/bin:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:$PATH:/usr/sbin:/usr/bin:/sbin:/bin"

say() {
  key=$1
  shift
  printf '\n@drydock %s %s\n' "$key" "$*"
}
# The last lines of a file.
tell() {
  tail -n 25 "$2" 2>/dev/null | while IFS= read -r line; do say "$1" "$line"; done
}
