# A sorted list of paths on stdin, a cpio archive (newc, as the kernel's initramfs buffer format wants it) on stdout.
# busybox's own cpio writes inode numbers and times as it finds them, and the same input must give the same bits.
inode=0
entry() { # PATH MODE SIZE CONTENT-COMMAND...
  inode=$((inode + 1))
  path=$1 mode=$2 size=$3
  shift 3
  printf '070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\0' \
    $inode $mode 0 0 1 1 $size 0 0 0 0 $((${#path} + 1)) 0 "$path"
  pad $((110 + ${#path} + 1))
  "$@"
  pad $size
}
pad() { case $(($1 % 4)) in 1) printf '\0\0\0' ;; 2) printf '\0\0' ;; 3) printf '\0' ;; esac }

while read -r found; do
  name=${found#./}
  [ "$name" != . ] || continue
  if [ -L "$found" ]; then
    target=$(readlink "$found")
    entry "$name" 0120777 ${#target} printf %s "$target"
  elif [ -d "$found" ]; then
    entry "$name" 0040755 0 true
  elif [ -x "$found" ]; then
    entry "$name" 0100755 "$(stat -c %s "$found")" cat "$found"
  else
    entry "$name" 0100644 "$(stat -c %s "$found")" cat "$found"
  fi
done
entry 'TRAILER!!!' 0 0 true
