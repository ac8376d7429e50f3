#!/bin/sh
# First process: loads drivers, finds the medium or disk that holds the system named on the command line, starts it.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys

argument() { sed -n "s/.*\\b$1=\\([^ ]*\\).*/\\1/p" /proc/cmdline; }
init=$(argument init)
root=$(argument drydock.root)

while read -r module; do
  insmod "/modules/$module" || echo "drydock: error: module $module does not load"
done </modules/order

# A file system is the right one when it holds the very store path that is to be started, whatever its name or label.
find_root() {
  for device in $(awk 'NR > 2 { print $4 }' /proc/partitions); do
    mount -r -t "$1" "/dev/$device" /medium 2>/dev/null || continue
    if [ -e "/medium$init" ]; then
      echo "/dev/$device" >/source
      return 0
    fi
    umount /medium
  done
  return 1
}

waited=0
until find_root "$root"; do
  if [ $waited -ge 60 ]; then
    echo "drydock: error: no $root file system holds $init; these devices exist:"
    cat /proc/partitions
    exec sh
  fi
  sleep 1
  waited=$((waited + 1))
done

if [ "$root" = iso9660 ]; then
  mount -t tmpfs -o mode=755 root /root
  mkdir -p /root/medium /root/nix/store
  mount --move /medium /root/medium
  mount --bind /root/medium/nix/store /root/nix/store
else
  mount -o remount,rw /medium
  mount --move /medium /root
fi
mkdir -p /root/dev /root/proc /root/sys /root/run
mount -t tmpfs -o mode=755 run /root/run
cp /source /root/run/root-device
mount --move /dev /root/dev
mount --move /proc /root/proc
mount --move /sys /root/sys
exec switch_root /root "$init"
