#!/bin/bash
# Kills the command at random moments while it replaces a pack, a model file and a model folder. After every kill the
# output must be the old one or the new one, whole; after a later run that ends well nothing unfinished may be left.
#
# Usage: kill.sh STITCHPACK [COUNT]        (COUNT kills in all, 200 if not said)

BIN=$(realpath "$1")
count=$(((${2:-200} + 2) / 3))
. "$(dirname "$(realpath "$0")")/lib.sh"
prepare 200000

killed=0 torn=0 left=0
for command in 0 1 2; do
    "$BIN" $(arguments $command a) >/dev/null || fail "$(arguments $command a)"
    start=$(date +%s%N)
    "$BIN" $(arguments $command b) >/dev/null || fail "$(arguments $command b)"
    took=$((($(date +%s%N) - start) / 1000))
    side=a
    for ((i = 0; i < count; i++)); do
        "$BIN" $(arguments $command $side) >/dev/null 2>&1 &
        pid=$!
        # Up to a little more than a whole run takes.
        sleep "$(printf '0.%06d' $((((RANDOM << 15 | RANDOM) % (took + took / 10)) % 1000000)))"
        kill -9 $pid 2>/dev/null && killed=$((killed + 1))
        wait $pid 2>/dev/null
        whole $command || fail "after kill $i of command $command the output is neither old nor new"
        [ "$(leftovers)" -gt 0 ] && left=$((left + 1))
        # Whichever it is now, write the other one next.
        if is $command a; then side=b; else side=a; fi
    done
    "$BIN" $(arguments $command a) >/dev/null || fail "a run after the kills"
    is $command a || fail "a run after the kills wrote something else"
    [ "$(leftovers)" -eq 0 ] || fail "a run after the kills left unfinished output of others"
done
echo "killed $killed runs: $torn torn, $left left something for the next run, which removed it"
