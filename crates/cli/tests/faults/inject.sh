#!/bin/bash
# Makes the Nth system call of a kind fail, for every N, while the command replaces a pack, a model file and a model folder.
# After each run the output must be the old one or the new one, whole; a run that says it succeeded must have written the
# new one; a run that failed must say so with exit code 7 and leave nothing unfinished.
#
# Usage: inject.sh STITCHPACK [quick]      (quick: one error a call, as the tests run it)

BIN=$(realpath "$1")
quick=${2:-}
command -v strace >/dev/null || { echo "skipped: strace is not here"; exit 0; }
. "$(dirname "$(realpath "$0")")/lib.sh"
prepare 20000
strace -o trace -e trace=write true 2>/dev/null || { echo "skipped: strace may not trace here"; exit 0; }

runs=0 failed=0

# Runs command $1 with side b while the Nth ($4) call $2 fails with $3; further options of strace follow. Gives 1 when no
# call was hit.
one() {
    local command=$1 call=$2 error=$3 n=$4 code
    shift 4
    is "$command" a || "$BIN" $(arguments "$command" a) >/dev/null || fail "cannot start from the old output"
    strace -f -o trace "$@" -e trace="$call" -e inject="$call:error=$error:when=$n" \
        "$BIN" $(arguments "$command" b) --threads 2 >said 2>&1
    code=$?
    grep -q INJECTED trace || return 1
    runs=$((runs + 1))
    local what="command $command with $call number $n failing with $error (exit $code: $(tail -n1 said))"
    grep -q panicked said && fail "$what: panicked"
    whole "$command" || fail "$what: the output is neither old nor new"
    if [ $code -eq 0 ]; then
        is "$command" b || fail "$what: says done, but the old output is there"
    else
        failed=$((failed + 1))
        [ $code -eq 7 ] || fail "$what: exit code"
        # What cannot be removed stays; the next run removes it.
        case $call in *unlink*) ;; *) [ "$(leftovers)" -eq 0 ] || fail "$what: left unfinished output" ;; esac
    fi
    rm -rf out/.stitch-*
    return 0
}

every() {
    local command=$1 call=$2 error=$3 n
    for ((n = 1; n < 200; n++)); do one "$command" "$call" "$error" $n || return 0; done
}

for command in 0 1 2; do
    for call in write pwrite64 fsync rename renameat renameat2 linkat fallocate ftruncate mkdir unlink unlinkat rmdir \
        copy_file_range; do
        case $call in
        write | pwrite64 | fallocate | ftruncate | mkdir | linkat) errors="ENOSPC EIO EDQUOT" ;;
        *) errors="EIO EROFS EACCES" ;;
        esac
        [ -n "$quick" ] && errors=${errors%% *}
        for error in $errors; do every $command $call $error; done
    done
done

# A file system without unnamed files: the temporary file has a name, and goes when the last step fails. (The library opens
# files by openat, but the unnamed one by open.)
for command in 0 1; do
    is $command a || "$BIN" $(arguments $command a) >/dev/null
    strace -f -o trace -e trace=open,renameat -P out -P "$(target $command)" \
        -e inject=open:error=EOPNOTSUPP -e inject=renameat:error=EIO "$BIN" $(arguments $command b) >said 2>&1
    [ "$(grep -c INJECTED trace)" -eq 2 ] || fail "without unnamed files: the calls were not hit"
    is $command a || fail "without unnamed files, rename failing: not the old output"
    [ "$(leftovers)" -eq 0 ] || fail "without unnamed files, rename failing: left unfinished output"
done

# A file system that cannot exchange two names, and fails at the worst moment.
for n in 1 2 3; do
    is 2 a || "$BIN" $(arguments 2 a) >/dev/null
    strace -f -o trace -e trace=renameat,renameat2 -e inject=renameat2:error=EINVAL \
        -e inject=renameat:error=ENOSPC:when=$n "$BIN" $(arguments 2 b) >said 2>&1
    code=$?
    whole 2 || fail "without exchange, rename $n failing: neither old nor new"
    [ "$(leftovers)" -eq 0 ] || fail "without exchange, rename $n failing: left unfinished output"
    [ $code -eq 7 ] || is 2 b || fail "without exchange, rename $n failing: says done, but the old output is there"
done

echo "$runs runs with a failing call, $failed of them reported it; every output was whole"
