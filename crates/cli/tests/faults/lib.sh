# What both scripts need: small models, and a judge of whether an output is whole.
# Sourced with BIN (the command) set; works in a folder of its own, which is removed at the end.

set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export STITCHPACK_CACHE="$work/cache"
mkdir out

fail() {
    echo "FAILED: $*" >&2
    ls -lA "$work/out" >&2
    exit 1
}

# A safetensors file with one I16 tensor of $1 random elements.
model() {
    local header="{\"w\":{\"dtype\":\"I16\",\"shape\":[$1],\"data_offsets\":[0,$((2 * $1))]}}"
    local n=${#header}
    printf "\\x$(printf %02x $((n & 255)))\\x$(printf %02x $((n >> 8)))\\0\\0\\0\\0\\0\\0%s" "$header"
    head -c $((2 * $1)) /dev/urandom
}

# base, two fine-tunes, a pack of each, and what each pack makes of the base, as a file and as a folder.
prepare() {
    local side
    mkdir base
    model "$1" >base/model.safetensors
    echo '{}' >base/config.json
    for side in a b; do
        mkdir "tuned-$side"
        model "$1" >"tuned-$side/model.safetensors"
        "$BIN" create -q base "tuned-$side" -o "$side.stitch" --exact >/dev/null || fail "create $side"
        "$BIN" apply -q base "$side.stitch" -o "want-$side" >/dev/null || fail "apply $side"
        "$BIN" apply -q base "$side.stitch" -o "want-$side.safetensors" >/dev/null || fail "apply $side"
    done
}

# The three commands that write, by number; $2 is a or b.
arguments() {
    case $1 in
    0) echo "create -q base tuned-$2 -o out/p.stitch --exact --force" ;;
    1) echo "apply -q base $2.stitch -o out/m.safetensors --force" ;;
    2) echo "apply -q base $2.stitch -o out/m --force" ;;
    esac
}

# Where command $1 writes, and what it should be for side $2.
target() { case $1 in 0) echo out/p.stitch ;; 1) echo out/m.safetensors ;; 2) echo out/m ;; esac; }
wanted() { case $1 in 0) echo "$2.stitch" ;; 1) echo "want-$2.safetensors" ;; 2) echo "want-$2" ;; esac; }

# Whether the output of command $1 is the whole of side $2.
is() { diff -rq "$(wanted "$1" "$2")" "$(target "$1")" >/dev/null 2>&1; }

# Whether the output of command $1 is whole: one of the two sides.
whole() { is "$1" a || is "$1" b; }

leftovers() { ls -A out | grep -c '^\.stitch-'; }
