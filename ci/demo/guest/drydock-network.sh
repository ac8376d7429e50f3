#!/bin/sh
# Brings up every network card by DHCP, in the background: a machine without a card or a lease is up all the same.
# udhcpc(8) runs this same program again with what it was given.
case ${1-} in
  bound | renew)
    ifconfig "$interface" "$ip" netmask "$subnet"
    [ -z "${router-}" ] || route add default gw "${router%% *}" dev "$interface" 2>/dev/null
    for server in ${dns-}; do echo "nameserver $server"; done >/etc/resolv.conf
    ;;
  deconfig) ifconfig "$interface" 0.0.0.0 ;;
  ?*) ;;
  *)
    ifconfig lo 127.0.0.1 up
    for card in /sys/class/net/*; do
      card=${card##*/}
      [ "$card" != lo ] || continue
      ifconfig "$card" up
      udhcpc -b -S -i "$card" -s "$0" >/dev/null 2>&1 &
    done
    ;;
esac
