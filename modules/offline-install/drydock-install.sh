# Puts a system on a disk: the one the medium carries, or one from a flake. The lines before this
# one say which host this is and where the file lies that says what is carried: system, partition, layout.
system='' partition='' layout=()
# shellcheck source=/dev/null
[ ! -e "$carried" ] || source "$carried"

usage() {
  cat <<TEXT
drydock-install: erase disks and install the system of "$host" on them.

  drydock-install                        asks which disk, needs no network
  drydock-install --disk main=/dev/sda   answers that question
  drydock-install --flake URI#HOST       installs another host; builds or downloads it

  --disk NAME=DEVICE  the disk for NAME in the disk layout; may be repeated
  --yes               do not ask before erasing
  --root-password     ask for a password for root; without it root can log in by ssh key only
  --list              show the disks and the layout, change nothing
TEXT
}

fail() {
  echo "drydock-install: $1" >&2
  exit "${2:-1}"
}

flake='' yes='' list='' password=(--no-root-passwd)
declare -A chosen=()
while [ $# -gt 0 ]; do
  case $1 in
    --disk)
      [[ ${2:-} == ?*=/* ]] || fail "--disk needs NAME=DEVICE, for example --disk main=/dev/sda" 2
      chosen[${2%%=*}]=${2#*=}
      shift
      ;;
    --flake)
      [[ ${2:-} == ?*'#'?* ]] || fail "--flake needs URI#HOST, for example --flake github:owner/fleet#web1" 2
      flake=$2
      shift
      ;;
    --yes) yes=1 ;;
    --list) list=1 ;;
    --root-password) password=() ;;
    --help | -h) usage && exit ;;
    *) fail "unknown argument \"$1\"; see drydock-install --help" 2 ;;
  esac
  shift
done
[ "$(id -u)" = 0 ] || fail "needs root: run it with sudo"

if [ -n "$flake" ]; then
  host=${flake##*#}
  attribute="${flake%#*}#nixosConfigurations.\"$host\".config"
  partition=$(nix build --no-link --print-out-paths "$attribute.system.build.destroyFormatMount") ||
    fail "could not build the disk layout of $flake; is there a network, and does the host use disko?"
  partition+=/bin/disko-destroy-format-mount
  mapfile -t layout < <(nix eval --json "$attribute.disko.devices.disk" \
    --apply 'builtins.mapAttrs (_: disk: disk.device)' | jq -r 'to_entries[] | "\(.key)=\(.value)"')
elif [ -z "$system" ]; then
  fail "this medium carries no installed system; name one with --flake URI#HOST"
fi
[ ${#layout[@]} -gt 0 ] || fail "the layout of host \"$host\" has no disk"

# The disk that the medium itself runs from must not be offered; with copy-to-RAM there is none.
medium=$(findmnt -no SOURCE /iso || true)
own=$(lsblk -ndo PKNAME "$medium" 2>/dev/null || true)
own=/dev/${own:-${medium##*/}}

echo "Disks of this machine:"
lsblk -dpo NAME,SIZE,TRAN,MODEL,SERIAL | awk -v own="$own" 'NR == 1 || ($1 !~ /loop|zram|sr[0-9]/ && $1 != own)'
echo "Layout of host \"$host\": ${layout[*]}"
[ -z "$list" ] || exit 0

names=()
for entry in "${layout[@]}"; do
  name=${entry%%=*} device=${entry#*=}
  names+=("$name")
  if [ -n "${chosen[$name]:-}" ]; then
    [[ $device == /run/drydock/disk/* ]] ||
      fail "the layout fixes disk \"$name\" to $device; it cannot be moved to ${chosen[$name]}" 2
  elif [[ $device == /run/drydock/disk/* ]]; then
    [ -z "$yes" ] || fail "--yes needs --disk $name=DEVICE" 2
    read -rp "Disk for \"$name\" (for example /dev/sda): " "chosen[$name]" || true
    [ -n "${chosen[$name]:-}" ] || fail "no disk was chosen" 2
  else
    chosen[$name]=$device
  fi
done
for name in "${!chosen[@]}"; do
  [[ " ${names[*]} " == *" $name "* ]] ||
    fail "the layout has no disk \"$name\"; it has: ${names[*]}" 2
done

declare -A taken=()
for name in "${names[@]}"; do
  device=$(realpath -e "${chosen[$name]}" 2>/dev/null) || fail "there is no ${chosen[$name]}; see --list" 2
  [ "$(lsblk -dno TYPE "$device" 2>/dev/null)" = disk ] || fail "$device is no whole disk; see --list" 2
  [ "$device" != "$own" ] || fail "$device is the medium that this system runs from" 2
  [ -z "${taken[$device]:-}" ] || fail "$device was given for both \"${taken[$device]}\" and \"$name\"" 2
  [ -z "$(lsblk -no MOUNTPOINTS "$device" | tr -d '[:space:]')" ] ||
    fail "$device is in use; unmount its file systems first" 2
  taken[$device]=$name
done

if [ -z "$flake" ]; then
  need=$(nix path-info --closure-size "$system" | awk '{ print $2 }')
  have=$(for device in "${!taken[@]}"; do blockdev --getsize64 "$device"; done | awk '{ sum += $1 } END { print sum }')
  # A gigabyte for the EFI system partition, a fifth for the file system itself.
  want=$((need + need / 5 + 1073741824))
  [ "$have" -ge "$want" ] ||
    fail "the system needs $((want / 1048576)) MiB, the chosen disks have $((have / 1048576)) MiB"
fi

echo "Everything on ${!taken[*]} will be erased."
if [ -z "$yes" ]; then
  read -rp 'Type "erase" to go on: ' answer || answer=''
  [ "$answer" = erase ] || fail "nothing was changed"
fi

mkdir -p /run/drydock/disk
for device in "${!taken[@]}"; do
  ln -sfn "$device" "/run/drydock/disk/${taken[$device]}"
done
# disko's own question was asked above.
"$partition" --yes-wipe-all-disks || fail "partitioning failed; the disks are not usable as they are"

if [ -n "$flake" ]; then
  nixos-install --root /mnt "${password[@]}" --no-channel-copy --flake "$flake" || fail "installing $flake failed"
else
  nixos-install --root /mnt "${password[@]}" --no-channel-copy --option substituters '' --system "$system" ||
    fail "installing $system failed"
fi
sync
umount -R /mnt
echo "Host \"$host\" is installed. Remove the medium and restart."
