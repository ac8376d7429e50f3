#!/bin/sh
# Makes the running machine be $system: /etc, /bin and /run/current-system point into it. Safe to run again.
PATH=$system/sw/bin
busybox=$system/sw/bin/busybox
$busybox mkdir -p /bin /etc /root /tmp /var/log /run
$busybox ln -sfn "$system" /run/current-system
$busybox --install -s /bin
PATH=/bin
chmod 1777 /tmp
for file in "$system"/etc/*; do
  ln -sfn "$file" "/etc/${file##*/}"
done
[ -e /etc/mtab ] || ln -s /proc/mounts /etc/mtab
hostname "$(cat /etc/hostname)"
echo "drydock: activated $system"
