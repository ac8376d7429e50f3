# Functions that write a FAT image from a folder with mtools; the same folder gives the same bits.
# mtools takes times from SOURCE_DATE_EPOCH or the files, and the serial number is given.
make_fat() { # IMAGE MIB FOLDER
  image=$1 mib=$2 folder=$3
  truncate -s "${mib}M" "$image"
  find "$folder" -exec touch -h -d @315532800 {} +
  mformat -i "$image" -h 16 -t $((mib * 2)) -s 128 -v DRYDOCK -N 0d0c0d0c ::
  (cd "$folder" && find . -mindepth 1 -maxdepth 1 | sort) | while read -r name; do
    mcopy -i "$image" -s -p -m "$folder/$name" ::
  done
}
