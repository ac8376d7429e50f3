# Takes one step of an installation, as root on a machine that runs a live medium. The lines before this one set `step` and
# what it needs, and prelude.sh stands between.
# shellcheck shell=sh disable=SC2154
run=/run/drydock-install
unit=drydock-install.service

works() { case $(systemctl is-active $unit 2>/dev/null) in active | activating | deactivating) return 0 ;; *) return 1 ;; esac }
is_mine() { [ "$(cat $run/id 2>/dev/null)" = "$id" ]; }

look() {
  say login "$login"
  say machine "$(uname -m)"
  say boot-id "$(cat /proc/sys/kernel/random/boot_id)"
  say root "$(findmnt -no FSTYPE / | tail -n 1)"
  if [ -d /sys/firmware/efi ]; then say firmware uefi; else say firmware bios; fi
  while read -r key kib _; do [ "$key" != MemTotal: ] || say memory "$kib"; done </proc/meminfo
  df -Pk /nix/store | while read -r _ _ _ kib _; do case $kib in *[!0-9]*) ;; *) say free "$kib" ;; esac done
  for program in nixos-install nix-daemon nix-store systemd-run lsblk wipefs ssh-keygen base64; do
    command -v $program >/dev/null || say misses $program
  done
  findmnt /mnt >/dev/null && say mounted yes
  works && say working "$(cat $run/id)"
  lsblk --json --bytes --all --output "$columns" 2>&1 | while IFS= read -r line; do say table "$line"; done
  for link in /dev/disk/by-id/*; do [ ! -e "$link" ] || say link "$(readlink -f "$link") $link"; done
  echo "$wanted" | while IFS= read -r device; do
    path=$(realpath -e -- "$device" 2>/dev/null) || path=
    # An attempt to open it alone, which fails for what is mounted or a part of something that runs. Nothing is wiped.
    used=free
    [ -z "$path" ] || wipefs --all --no-act "$path" >/dev/null 2>&1 || used=used
    say wanted "$(cat "/sys/class/block/${path##*/}/diskseq" 2>/dev/null || echo -) $used $path"
  done
  # shellcheck disable=SC2086 # one word a path
  nix-store --check-validity --print-invalid $closure 2>/dev/null | while read -r path; do say lacks "$path"; done
}

begin() {
  exec 9>$run.lock
  flock -n 9 || {
    say problem 'another installation begins there'
    return
  }
  if works; then
    say problem "$(cat $run/id) installs it"
  elif [ "$(cat /proc/sys/kernel/random/boot_id)" != "$boot" ]; then
    say problem 'it was restarted after it was looked at'
  elif [ "$(cat $run.stopped 2>/dev/null)" = "$id" ]; then
    say problem 'it was stopped before it began'
  else
    rm -rf $run
    mkdir -m 700 $run
    echo "$id" >$run/id
    printf %s "$program" >$run/program
    systemctl reset-failed $unit 2>/dev/null
    systemd-run --quiet --collect --no-ask-password --unit=${unit%.service} --service-type=exec \
      --setenv=PATH="$PATH" --setenv=LC_ALL=C --setenv=HOME=/root \
      /bin/sh -c "exec /bin/sh $run/program >>$run/log 2>&1" 9>&- || say problem 'systemd-run could not start a unit'
  fi
}

# What `files` puts below the root of the new system; it belongs to root.
directory() { [ -d "/mnt$2" ] || { mkdir "/mnt$2" && chmod "$1" "/mnt$2"; } || say problem "$2"; }
file() { { (umask 077 && base64 -d >"/mnt$2") && chmod "$1" "/mnt$2"; } || say problem "$2"; }
link() { ln -s -- "$1" "/mnt$2" || say problem "$2"; }

# Of a beginning that is still under way, the mark has no unit made.
stop() {
  exec 9>$run.lock
  flock -w 30 9
  echo "$id" >$run.stopped
  is_mine || return 0
  systemctl stop $unit
  say stage "$(cat $run/stage 2>/dev/null)"
}

# How far it is, once that is something else than what is known, or time has passed.
poll() {
  tries=0
  while is_mine && [ ! -e $run/outcome ] && [ "$(cat $run/stage 2>/dev/null)" = "$known" ] && works && [ $tries -lt 50 ]; do
    sleep 0.2
    tries=$((tries + 1))
  done
  say boot-id "$(cat /proc/sys/kernel/random/boot_id)"
  is_mine || {
    say gone yes
    return
  }
  works || say ended yes
  say stage "$(cat $run/stage 2>/dev/null)"
  [ ! -e $run/outcome ] || say outcome "$(cat $run/outcome)"
  [ ! -e $run/keys ] || while read -r line; do say key "$line"; done <$run/keys
  tell log $run/log
}

main() {
  case $step in
  look) look ;;
  begin) begin ;;
  files) if is_mine && [ "$(cat $run/stage)" = waiting ]; then files; else say problem 'the installation has ended'; fi ;;
  go) is_mine && : >$run/go ;;
  poll) poll ;;
  stop) stop ;;
  esac
  say end "$?"
}
# The whole script has been read when this is run, so that nothing takes a part of it for its input.
main </dev/null
