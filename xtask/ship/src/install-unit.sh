# Partitions the disks, waits until the system is there, and installs it: what the systemd unit of an installation runs, so
# that it outlives ssh. The lines before this one set what it needs.
# shellcheck shell=sh disable=SC2154
run=/run/drydock-install

stage() {
  echo "$1" >$run/stage.new
  mv $run/stage.new $run/stage
}
end() {
  echo "$*" >$run/outcome.new
  mv $run/outcome.new $run/outcome
  exit
}
# A mount may still be held for a moment by what was ended.
leave() {
  sync
  for _ in 1 2 3 4 5; do
    findmnt /mnt >/dev/null || break
    umount -R /mnt && break
    sleep 1
  done
  # A pool that is not exported is not imported by the next system.
  if command -v zpool >/dev/null; then zpool export -a; fi
  ! findmnt /mnt >/dev/null
}
trap 'leave; end "it was stopped"' TERM INT HUP

stage checking
mkdir -p /run/drydock/disk
while read -r name sequence path; do
  [ "$(cat "/sys/class/block/${path##*/}/diskseq" 2>/dev/null || echo -)" = "$sequence" ] ||
    end "$path is not the disk that was shown"
  wipefs --all --no-act "$path" >/dev/null || end "something uses $path"
  # The place that modules/disk-single.nix names.
  ln -sfn "$path" "/run/drydock/disk/$name"
done <<END
$disks
END

stage partitioning
# disko's own question was asked by us.
"$partition" --yes-wipe-all-disks </dev/null || {
  code=$?
  leave
  end "partitioning failed ($code)"
}

stage waiting
until [ -e $run/go ]; do sleep 0.3; done

stage installing
nixos-install --root /mnt --no-root-passwd --no-channel-copy --option substituters '' --system "$system" </dev/null || {
  code=$?
  leave
  end "nixos-install failed ($code)"
}

stage keys
# sshd makes at its first start what there is not; made here, they are known before.
while read -r type bits path; do
  [ -n "$type" ] || continue
  file=/mnt$path
  [ -e "$file" ] || { mkdir -p "${file%/*}" && ssh-keygen -q -t "$type" -b "$bits" -N '' -C "root@$host" -f "$file"; }
  ssh-keygen -y -P '' -f "$file" </dev/null >>$run/keys || {
    leave
    end "its host key $path cannot be read or made"
  }
done <<END
$keys
END

stage unmounting
leave || end "its disks could not be unmounted"
end installed
