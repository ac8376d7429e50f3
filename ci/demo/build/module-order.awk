# Orders the modules named by wanted="name …" after what they depend on, by modules.dep and modules.builtin.
# A wanted module that is neither a file nor built in ends the build: an initrd without its driver boots nowhere.
function key(path) { sub(/.*\//, "", path); sub(/\.ko(\.xz|\.zst)?$/, "", path); gsub(/-/, "_", path); return path }
function visit(name,    count, list, i) {
  if (name in seen) return
  seen[name] = 1
  count = split(dependencies[name], list, " ")
  for (i = count; i >= 1; i--) visit(key(list[i]))
  print file[name]
}
FILENAME ~ /builtin$/ { builtin[key($1)] = 1; next }
{ path = $1; sub(/:$/, "", path); name = key(path); file[name] = path; line = $0; sub(/^[^:]*: */, "", line); dependencies[name] = line }
END {
  count = split(wanted, names, " ")
  for (i = 1; i <= count; i++) {
    name = key(names[i])
    if (name in file) visit(name)
    else if (!(name in builtin)) { print "this kernel has no module " names[i] > "/dev/stderr"; missing = 1 }
  }
  exit missing
}
