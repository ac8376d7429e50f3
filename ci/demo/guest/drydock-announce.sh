#!/bin/sh
# Prints on the serial console and on the screen who has started, from what, and how: the line that tests wait for.
. /etc/drydock
firmware=none
case $SYSTEM in x86_64-*) firmware=bios ;; esac
[ ! -d /sys/firmware/efi ] || firmware=uefi
line="drydock: host=$HOST artifact=$ARTIFACT version=$VERSION system=$SYSTEM kernel=$(uname -r) firmware=$firmware root=$(cat /run/root-device)"
printf '\n%s\n' "$line" >/dev/console
[ ! -w /dev/tty1 ] || printf '\n%s\n' "$line" >/dev/tty1
