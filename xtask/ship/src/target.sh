# Takes one step of a deployment, as root on the machine that is deployed to. The lines before this one set `step` and what
# it needs, and prelude.sh stands between.
# shellcheck shell=sh disable=SC2154
profile=/nix/var/nix/profiles/system
roots=/nix/var/nix/gcroots
current=/run/current-system
# On a tmpfs: after a restart there is no deployment, and the boot default has decided.
run=/run/drydock-deploy
own='drydock-undo.timer drydock-undo.service drydock-activate.service drydock-confirm.service'

# Also what ends with an error and is started again and again, as switch-to-configuration-ng counts.
failed_units() {
  systemctl list-units --state=failed,auto-restart --plain --no-legend --full --no-pager 2>/dev/null |
    while read -r unit _ state _; do
      [ "$state" = failed ] || [ "$(systemctl show --property=ExecMainStatus --value "$unit")" != 0 ] || continue
      echo "$unit"
    done
}
is_active() {
  for unit; do
    case $(systemctl is-active "$unit" 2>/dev/null) in active | activating | deactivating | reloading) return 0 ;; esac
  done
  return 1
}
# shellcheck disable=SC2086 # one word a unit
own_is_active() { is_active $own; }
who_switches() {
  if is_active nixos-rebuild-switch-to-configuration.service; then
    echo nixos-rebuild
  elif [ ! -e $run/outcome ] && own_is_active; then
    cat $run/id 2>/dev/null || echo 'another deployment'
  fi
}
# What a machine is started with, one line a part.
parts() {
  for part in kernel initrd kernel-modules; do
    [ ! -e "$1/$part" ] || echo "$part $(readlink -f "$1/$part")"
  done
  echo "kernel-params $(cat "$1/kernel-params" 2>/dev/null)"
}

probe() {
  say login "$login"
  say machine "$(uname -m)"
  say host "$(cat /proc/sys/kernel/hostname)"
  say boot-id "$(cat /proc/sys/kernel/random/boot_id)"
  say current "$(readlink -f $current)"
  say booted "$(readlink -f /run/booted-system)"
  say profile "$(readlink -f $profile)"
  say generation "$(readlink $profile)"
  say version "$(cat $current/nixos-version 2>/dev/null)"
  say switching "$(who_switches)"
  df -Pk /nix/store | while read -r _ _ _ kib _; do case $kib in *[!0-9]*) ;; *) say free "$kib" ;; esac done
  [ "$(parts $current)" = "$(parts /run/booted-system)" ] || say reboot-pending yes
  failed_units | while read -r unit; do say failed "$unit"; done
  for link in "$profile"-*-link; do [ ! -e "$link" ] || say kept "$link $(readlink -f "$link")"; done
  [ -n "${closure:-}" ] || return 0
  # shellcheck disable=SC2086 # one word a path
  nix-store --check-validity --print-invalid $closure | while read -r path; do say lacks "$path"; done
  nix-store --query --requisites $current | while read -r path; do say has "$path"; done
  # shellcheck disable=SC2012 # names of units have no spaces, and a process for each link takes a second
  ls -l $current/etc/systemd/system/ 2>/dev/null | while read -r _ _ _ _ _ _ _ _ unit _ path; do
    [ -z "${path:-}" ] || say unit "$unit $path"
  done
  parts /run/booted-system | while read -r line; do say booted-part "$line"; done
}

# Writes what the undo, the activation and the confirmation do, each in a systemd unit of its own: they outlive ssh.
write_guard() {
  {
    printf '%s\n' "PATH='$PATH'" "profile=$profile roots=$roots current=$current run=$run" \
      "new='$new' old='$old' keep='$keep' generation='$generation'"
    cat <<'GUARD'
export PATH LC_ALL=C
# Of the undo and the confirmation only one comes through.
decide() { mkdir $run/decided 2>/dev/null; }
outcome() {
  echo "$*" >$run/outcome.new
  mv $run/outcome.new $run/outcome
}
case $1 in
activate)
  "$new/bin/switch-to-configuration" test
  echo $? >$run/activated.new
  mv $run/activated.new $run/activated
  ;;
undo)
  decide || exit 0
  # It is still armed where we were asked to undo before its time.
  systemctl stop drydock-undo.timer
  # It holds the lock of switch-to-configuration, and may hang.
  systemctl stop drydock-activate.service
  "$old/bin/switch-to-configuration" test
  code=$?
  ln -sfn "$new" $roots/drydock-failed
  rm -f $roots/drydock-new $roots/drydock-old
  if [ "$(readlink -f $current)" = "$old" ]; then outcome rolled-back $code; else outcome stuck $code; fi
  ;;
confirm)
  decide || exit 0
  systemctl stop drydock-undo.timer
  if [ "$keep" = test ]; then
    outcome confirmed
    exit
  fi
  before=$(readlink $profile | sed 's/^system-//; s/-link$//')
  if [ -n "$generation" ]; then
    nix-env --profile $profile --switch-generation "$generation"
  else
    nix-env --profile $profile --set "$new"
  fi && "$new/bin/switch-to-configuration" boot
  code=$?
  if [ $code = 0 ]; then
    rm -f $roots/drydock-new $roots/drydock-old
    outcome confirmed
  else
    # A menu that names what is no longer the profile would start it all the same.
    nix-env --profile $profile --switch-generation "$before" && "$old/bin/switch-to-configuration" boot
    outcome not-default $code
  fi
  ;;
esac
GUARD
  } >$run/guard
}
start_unit() {
  unit=$1
  shift
  systemd-run --quiet --collect --no-ask-password --unit="$unit" "$@"
}
guard() { start_unit "drydock-$1" --service-type=exec --property=TimeoutStopSec=10 /bin/sh -c "exec /bin/sh $run/guard $1 >>$run/$1.log 2>&1"; }

begin() {
  exec 9>$run.lock
  flock -n 9 || {
    say switching 'another deployment'
    return
  }
  who=$(who_switches)
  [ -z "$who" ] || {
    say switching "$who"
    return
  }
  # The units of the deployment before this one go away a moment after its end.
  for _ in 1 2 3 4 5; do
    own_is_active || break
    sleep 1
  done
  old=$(readlink -f $current)
  for system in "$new" "$old"; do
    [ -x "$system/bin/switch-to-configuration" ] || {
      say problem "$system has no bin/switch-to-configuration"
      return
    }
  done
  rm -rf $run
  mkdir -m 700 $run
  echo "$id" >$run/id
  write_guard
  failed_units >$run/failed
  ln -sfn "$new" $roots/drydock-new
  ln -sfn "$old" $roots/drydock-old
  systemctl reset-failed drydock-undo.service 2>/dev/null
  if [ "$keep" = boot ]; then
    guard confirm 9>&- || say problem 'systemd-run could not start a unit'
    return
  fi
  start_unit drydock-undo --on-active="${seconds}s" --timer-property=AccuracySec=1s --property=TimeoutStopSec=10 \
    /bin/sh -c "exec /bin/sh $run/guard undo >>$run/undo.log 2>&1" 9>&- || {
    say problem 'the timer that undoes the change could not be armed'
    return
  }
  guard activate 9>&- || {
    systemctl stop drydock-undo.timer
    say problem 'systemd-run could not start a unit'
  }
}

is_mine() { [ "$(cat $run/id 2>/dev/null)" = "$id" ]; }
# How far it is, once there is something new or time has passed.
poll() {
  tries=0
  while is_mine && [ ! -e $run/outcome ] && [ ! -e "$run/$until" ] && [ $tries -lt $((wait * 5)) ]; do
    sleep 0.2
    tries=$((tries + 1))
  done
  report
}
report() {
  say current "$(readlink -f $current)"
  say boot-id "$(cat /proc/sys/kernel/random/boot_id)"
  is_mine || {
    say gone yes
    return
  }
  [ ! -e $run/activated ] || say activated "$(cat $run/activated)"
  [ ! -e $run/outcome ] || say outcome "$(cat $run/outcome)"
  for log in activate confirm undo; do tell "$log" $run/$log.log; done
}
# A check has some seconds, because a service may be starting.
check() {
  end=$(($(date +%s) + 15))
  while :; do
    said=$(timeout 15 /bin/sh -c "$1" 2>&1)
    code=$?
    [ $code != 0 ] || return 0
    [ "$(date +%s)" -lt $end ] || break
    sleep 1
  done
  say check-failed "\`$1\` (exit code $code): $(echo "$said" | tail -n 1)"
}
verify() {
  report
  failed_units | while read -r unit; do grep -qxF -e "$unit" $run/failed 2>/dev/null || say newly-failed "$unit"; done
  grep -E '^(Failed to |warning: )' $run/activate.log | while IFS= read -r line; do say warning "$line"; done
  checks
}

main() {
  case $step in
  probe) probe ;;
  begin) begin ;;
  poll) poll ;;
  verify) verify ;;
  confirm) is_mine && guard confirm ;;
  undo) is_mine && systemctl start --no-block drydock-undo.service ;;
  dry-activate) "$new/bin/switch-to-configuration" dry-activate 2>&1 | while IFS= read -r line; do say line "$line"; done ;;
  reboot) systemctl reboot ;;
  esac
  say end "$?"
}
# The whole script has been read when this is run, so that nothing takes a part of it for its input.
main </dev/null
