#!/bin/sh
# Installs the system that this live medium carries onto a disk, without a network.
# In: the disk, and a confirmation. Out: a disk that starts by BIOS or UEFI, or an error that says what to do.
set -eu
medium=/medium/install

fail() {
  echo "drydock-install: error: $*" >&2
  exit 1
}

usage() {
  cat <<'TEXT'
usage: drydock-install [--yes] DISK
  Puts the installed system of this medium's host on DISK, for example /dev/vda.
  The disk must be empty: its first MiB holds only zeros. Without --yes the disk's name has to be typed again.
disks:
TEXT
  awk 'NR > 2 && $4 !~ /^(sr|loop|ram|fd)/ { printf "  /dev/%s  %d MiB\n", $4, $3 / 1024 }' /proc/partitions
}

confirmed=
[ "${1-}" != --yes ] || {
  confirmed=yes
  shift
}
[ $# -eq 1 ] || {
  usage >&2
  exit 2
}
disk=$1
[ -d $medium ] || fail "this medium carries no installable system; build the host with the artifact \"system\""
[ -b "$disk" ] || fail "$disk is no block device; run drydock-install without arguments for a list"
case $(cat /run/root-device) in "$disk" | "$disk"[0-9p]*) fail "$disk is the medium this system runs from; name another disk" ;; esac
! grep -q "^$disk" /proc/mounts || fail "$disk is mounted; unmount it first"

# Room for the boot partition, the system twice over (the next version is unpacked beside it), and a MiB for the table.
need=$(($(cat $medium/boot-mib) + 2 * $(cat $medium/system-mib) + 8))
have=$(($(blockdev --getsize64 "$disk") / 1048576))
[ $have -ge $need ] || fail "$disk is too small: it has $have MiB, the system needs $need MiB"
[ "$(head -c 1048576 "$disk" | tr -d '\0' | wc -c)" -eq 0 ] ||
  fail "$disk is not empty; if nothing on it is needed, clear it with: dd if=/dev/zero of=$disk bs=1M count=1"

if [ -z "$confirmed" ]; then
  printf 'Everything on %s (%s MiB) will be replaced. Type its name to go on: ' "$disk" "$have"
  read -r typed
  [ "$typed" = "$disk" ] || fail "\"$typed\" is not $disk; nothing was changed"
fi

echo "drydock-install: partitioning $disk"
boot_sectors=$(($(cat $medium/boot-mib) * 2048))
root_start=$((2048 + boot_sectors))
printf 'o\nn\np\n1\n2048\n%d\nt\nef\nn\np\n2\n%d\n\na\n1\nw\n' $((root_start - 1)) $root_start | fdisk -u "$disk" >/tmp/fdisk.log 2>&1 ||
  {
    cat /tmp/fdisk.log >&2
    fail "fdisk could not write the partition table of $disk"
  }
partition=$disk
case $disk in *[0-9]) partition=${disk}p ;; esac
waited=0
until [ -b "${partition}2" ]; do
  [ $waited -lt 10 ] || fail "the kernel does not show ${partition}2"
  partprobe "$disk" 2>/dev/null || true
  sleep 1
  waited=$((waited + 1))
done

echo "drydock-install: writing the boot partition"
dd if=$medium/boot.img of="${partition}1" bs=1M 2>/dev/null
[ ! -e $medium/mbr.bin ] || dd if=$medium/mbr.bin of="$disk" bs=440 count=1 conv=notrunc 2>/dev/null

echo "drydock-install: copying the system"
mke2fs -F -L drydock "${partition}2" >/dev/null
mkdir -p /mnt
mount -t ext4 "${partition}2" /mnt
mkdir -p /mnt/nix/store
while read -r path; do
  cp -a "/medium$path" /mnt/nix/store/ || fail "cannot copy $path"
done <$medium/closure
umount /mnt
sync
echo "drydock-install: done: $disk holds $(cat $medium/system); remove the medium and start the machine"
