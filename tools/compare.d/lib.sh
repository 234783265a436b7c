# shellcheck shell=bash
# What tools/compare and the rivals' scripts share. Everything that must be undone is noted in the folder $T, and `tidy`
# undoes it: after each rival, and when the program ends, however it ends.
#
#   $T/results   rival, column (small, million, new), nanoseconds per packet: one line for each measurement
#   $T/notes     rival, tab, a sentence instead of figures
#   $T/about     rival, tab, name with version, tab, what it does of the work, tab, what it does not do
#   $T/running   one file for each process that runs, named by its id
#   $T/settings  the old value of each setting of the kernel that was changed, in a file named by its path with : for /
#   $T/spaces    the network namespaces that were made

progress() { printf '%s  %s\n' "$(date +%T)" "$1" >&2; }
note() { printf '%s\t%s\n' "$1" "$2" >>"$T/notes"; }
about() { printf '%s\t%s\t%s\t%s\n' "$@" >>"$T/about"; }

begin() {
    T=$(mktemp -d "${TMPDIR:-/tmp}/clearway-compare.XXXXXX")
    mkdir "$T/running" "$T/settings" "$T/spaces"
    touch "$T/results" "$T/notes" "$T/about"
    trap finish EXIT
    trap 'exit 130' INT TERM HUP
    local cores
    cores=$(taskset -cp $$ | sed 's/.*: //')
    CORE=${CORE:-${cores##*[,-]}}
    # Helpers of a rival that do not carry packets run beside it, if there is another core.
    export OTHER=${cores%%[,-]*}
}

finish() {
    # First what would start more.
    [ -z "${RIVAL:-}" ] || kill -TERM "$RIVAL" 2>/dev/null || true
    tidy
    if [ -n "$KEEP" ]; then progress "kept: $T"; else rm -rf "$T"; fi
}

tidy() {
    local file
    for file in "$T"/running/*; do
        [ -e "$file" ] || continue
        stop_process "${file##*/}"
    done
    for file in "$T"/spaces/*; do
        [ -e "$file" ] || continue
        ip netns del "${file##*/}" 2>/dev/null || true
        rm -f "$file"
    done
    for file in "$T"/settings/*; do
        [ -e "$file" ] || continue
        local name=${file##*/}
        cat "$file" >"${name//://}" 2>/dev/null || true
        rm -f "$file"
    done
}

# Ends a process of ours and those that it started.
stop_process() {
    local try
    kill -TERM -- "-$1" 2>/dev/null || kill -TERM "$1" 2>/dev/null || true
    for try in {1..50}; do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
        [ "$try" -lt 50 ] || kill -KILL "$1" 2>/dev/null || true
    done
    rm -f "$T/running/$1"
}

# pinned CORE PROGRAM ARGUMENTS...: runs it to its end on that core, before everything else there, at most three minutes.
pinned() {
    local core=$1 id status=0
    shift
    # A session of its own has a share of the processor of its own; without that, niceness means nothing to others.
    setsid timeout --kill-after=5 180 taskset -c "$core" bash -c \
        '{ echo -20 >/proc/self/autogroup; } 2>/dev/null; exec nice -n -20 "$@"' bash "$@" &
    id=$!
    : >"$T/running/$id"
    wait "$id" || status=$?
    rm -f "$T/running/$id"
    return "$status"
}

# setting FILE VALUE: writes it into a file of /proc or /sys; `tidy` puts the old value back.
setting() {
    local kept=$T/settings/${1//\//:}
    [ -e "$kept" ] || cat "$1" >"$kept"
    echo "$2" >"$1"
}

# At least so many pages of 2 MiB that nobody uses.
huge_pages() {
    local pages=/sys/kernel/mm/hugepages/hugepages-2048kB free
    free=$(cat $pages/free_hugepages)
    [ "$free" -ge "$1" ] || setting $pages/nr_hugepages $(($(cat $pages/nr_hugepages) + $1 - free))
    free=$(cat $pages/free_hugepages)
    [ "$free" -ge "$1" ] || fail "the kernel gives only $free of $1 huge pages"
}

new_namespace() {
    : >"$T/spaces/$1"
    ip netns add "$1"
    ip netns exec "$1" sysctl -qw net.ipv6.conf.all.disable_ipv6=1
    ip -n "$1" link set lo up
}

# The last line of a rival's log is what the table says of its failure.
fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

# wait_received RIVAL PACKETS: until NAME_received says so many, at most a minute.
wait_received() {
    local try now=0
    for ((try = 0; try < 120; try++)); do
        now=$("$1_received")
        [ "$now" -lt "$2" ] || return 0
        sleep 0.5
    done
    fail "only $now of $2 packets were taken in a minute"
}

# windows RIVAL COLUMN SECONDS: the packets that a switch which runs by itself takes in that many seconds, several times,
# as long as there are packets; by NAME_received and NAME_sent.
windows() {
    local rival=$1 column=$2 repeat from to start end sent received
    sent=$("${rival}_sent") received=$("${rival}_received")
    for ((repeat = 0; repeat < REPEATS; repeat++)); do
        from=$("${rival}_received") start=$(date +%s%N)
        sleep "$3"
        to=$("${rival}_received") end=$(date +%s%N)
        sleep 0.02
        [ "$("${rival}_received")" -gt "$to" ] || break
        awk -v packets=$((to - from)) -v ns=$((end - start)) 'BEGIN {printf "%.1f\n", ns / packets}' | sed "s/^/$rival $column /"
    done
    [ "$repeat" -gt 0 ] || fail "the packets came to an end too early ($column)"
    received=$(($("${rival}_received") - received)) sent=$(($("${rival}_sent") - sent))
    echo "$column: $sent of $received packets left" >&2
    # The two counters are not read at the same time.
    [ $((sent * 100)) -ge $((received * 85)) ] || fail "only $sent of $received packets were forwarded ($column)"
}

install_packages() {
    local name list='gcc python3 iproute2'
    for name in "${ONLY[@]}"; do list+=" $("packages_$name")"; done
    progress "apt-get install $list"
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $list >"$T/install.log" 2>&1 || {
        tail -n 3 "$T/install.log" >&2
        complain "apt-get does not install $list; apt-get update may help"
    }
}

enough_room() {
    local memory disk
    memory=$(awk '/^MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
    disk=$(df --output=avail -k "$T" | awk 'END {print int($1 / 1048576)}')
    [ "$memory" -ge 6 ] || complain "$memory GB of memory are free; 6 are needed"
    [ "$disk" -ge 2 ] || complain "$disk GB are free in ${TMPDIR:-/tmp}; 2 are needed (TMPDIR may name another place)"
}

calibrate() {
    progress "calibration"
    pinned "$CORE" "$T/calibrate" >>"$T/calibration"
}

# compare NAME: measures one, or notes why it could not.
compare() {
    local name=$1
    if "missing_$name"; then
        local packages
        packages=$("packages_$name")
        note "$name" "not installed (${packages:+apt-get install }${packages:-not in Debian})"
        progress "$name is not installed"
        return
    fi
    progress "$name"
    ("measure_$name" >"$T/$name.out" 2>"$T/$name.log") &
    RIVAL=$!
    if wait "$RIVAL"; then
        cat "$T/$name.out" >>"$T/results"
    else
        note "$name" "failed: $(tail -n 1 "$T/$name.log" | cut -c 1-200)"
        progress "$name failed: $(tail -n 1 "$T/$name.log")"
    fi
    RIVAL=''
    tidy
}
