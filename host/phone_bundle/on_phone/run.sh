#!/system/bin/sh
# Measures the networks of this folder on the phone that it lies on: no PC, no root, nothing but Android's own
# programs. Start it by `sh run.sh`, from adb shell or in Termux; README.txt says where to put the folder. Started
# again it goes on where it was ended. What it finds out is in results/; on a PC, then:
#
#     python runner.py phone import FOLDER
#
# The order is that of every measurement of this project: outputs are compared with the reference's first, and
# what computes something else gets no time. Android 9 and newer have awk, which compares here; on older ones the
# comparison, and so the time, has to wait for `phone import`. sha256sum is Android 8's.
# results/NETWORK.MEASUREMENT/ holds the raw files of a measurement; it is whole once `sums` is there.

case $0 in */*) cd "${0%/*}" || exit 1 ;; esac
PATH=$PATH:/system/bin:/vendor/bin
export PATH
export LC_ALL=C

say_error() {
    echo "error: $1. $2" >&2
    exit 1
}

sha256() {
    set -- $(sha256sum <"$1")
    echo "$1"
}

check_bundle() { # what is here is what was packed
    command -v sha256sum >/dev/null || say_error "this phone has no sha256sum" "Android 8 and newer have"
    while read -r sum path; do
        [ "$(sha256 "$path" 2>/dev/null)" = "$sum" ] ||
            say_error "$path is not what was packed" "Copy the bundle to the phone again"
    done <files.sha256
    id=$(sha256 manifest.json)
    chmod 755 benchmark_model 2>/dev/null
    ./benchmark_model --help </dev/null >/dev/null 2>&1
    case $? in
        126 | 127) say_error "benchmark_model does not start in $PWD" \
            "It is for $(cat abi), this phone is $(getprop ro.product.cpu.abilist 2>/dev/null || uname -m); and Android lets no program run from /sdcard" ;;
    esac
}

check_alone() {
    mkdir -p results || say_error "$PWD cannot be written" "Put the bundle where README.txt says"
    read -r other 2>/dev/null <results/pid
    if [ -n "$other" ] && [ "$other" != $$ ] && grep -q run.sh "/proc/$other/cmdline" 2>/dev/null; then
        say_error "it runs already (process $other)" "Wait for it, or end it: kill $other"
    fi
    echo $$ >results/pid || storage_full
    if [ -e results/bundle ] && [ "$(cat results/bundle)" != "$id" ]; then
        say_error "results/ is another bundle's" "Move it away: mv results results.old"
    fi
    echo "$id" >results/bundle || storage_full
}

storage_full() {
    say_error "results/ cannot be written: is the storage full?" "Free some and run it again; it goes on from here"
}

room() { # a cut file is worse than none, so there has to be room for one before each measurement
    head -c $((2097152 + n * bytes)) /dev/zero >results/room 2>/dev/null && [ "$(wc -c <results/room)" -ge 2097152 ]
    left=$?
    rm -f results/room
    [ $left = 0 ] || storage_full
}

# --- which cores: as tools/android/units.py chooses them -------------------------------------------------------

look_at_cores() { # slow, fast and big are lists of cores; n_cpus is how many there are
    cpus=/sys/devices/system/cpu n_cpus=0 slow="" big="" low=0 high=0
    while [ -d $cpus/cpu$n_cpus ]; do
        khz=$(cat $cpus/cpu$n_cpus/cpufreq/cpuinfo_max_freq 2>/dev/null)
        alike=$(cat $cpus/cpu$n_cpus/cpufreq/related_cpus 2>/dev/null)
        n_cpus=$((n_cpus + 1))
        [ -n "$khz" ] || continue
        if [ $low = 0 ] || [ "$khz" -lt $low ]; then low=$khz slow=$alike; fi
        if [ "$khz" -ge $high ]; then high=$khz big=$alike; fi
    done
    [ $n_cpus -gt 0 ] || n_cpus=1
    fast=""
    each=0
    while [ $each -lt $n_cpus ]; do
        case " $slow " in *" $each "*) ;; *) fast="$fast $each" ;; esac
        each=$((each + 1))
    done
    if [ "$slow" = "$big" ]; then slow="" big="" fast=""; fi # all alike, or not told
}

choose_cores() { # $1: fast or big; sets pin, kept and threads
    case $1 in big) kept=$big ;; *) kept=$fast ;; esac
    mask=0 count=0 pin=""
    for each in $kept; do
        mask=$((mask | 1 << each)) count=$((count + 1))
    done
    if [ $count -gt 0 ]; then
        pin="taskset $(printf %x $mask)"
        $pin true 2>/dev/null || pin="" kept="" count=0
    fi
    [ "$threads" -gt 0 ] || threads=$count
    [ "$threads" -gt 0 ] || threads=$n_cpus
}

# --- one measurement -------------------------------------------------------------------------------------------

measure() { # in the network's folder; $1: where its files go
    out=$1
    rm -rf "$out"
    mkdir -p "$out" || return 1
    choose_cores "$cores"
    echo "$threads $kept" >"$out/where"
    state >"$out/before" 2>/dev/null
    status="" correctness=null times=""
    (. ./answers.sh) </dev/null >"$out/answers" 2>&1
    judge_run "$out/answers"
    [ -n "$status" ] || compare
    if [ -z "$status" ] || [ "$status" = unchecked ]; then
        sleep "$rest_s"
        state >"$out/before" 2>/dev/null
        (. ./timed.sh) </dev/null >"$out/timed" 2>&1
        state >"$out/after" 2>/dev/null
        [ -n "$status" ] || judge_run "$out/timed"
        [ -n "$status" ] || compare last
        [ -n "$status" ] || judge_times
    fi
    record >"$out/record.json" || return 1
    (cd "$out" && for file in *; do echo "$(sha256 "$file") $file"; done >.sums && mv .sums sums)
}

judge_run() { # of what benchmark_model printed into the file $1
    code=$(sed -n 's/^@@ code //p' "$1" | tail -n 1)
    if [ "${code:-0}" -gt 128 ]; then
        status=failed
        reason="benchmark_model was ended on the phone by signal $((code - 128))"
        hint="9: Android's memory was short; another: it crashed on this network. See $out/${1##*/}."
    elif [ "$delegate" != - ] && # as tools/benchmark_model.py reads it: nothing else says that it runs there
        ! grep -qE "pplied $delegate delegate, and the model graph will be (completely|partially) executed" "$1"; then
        status=unsupported
        reason="the $device delegate runs nothing of the network on this phone"
        hint="The CPU ran it, or would have; that is the device CPU."
    elif [ "$code" != 0 ]; then
        status=failed
        reason="benchmark_model failed on the phone: $(grep -vE '^(@@|$)' "$1" | tail -n 1 | cut -c 1-200) (exit code $code)"
        hint="See $out/${1##*/}."
    elif [ ! -e "$out/0" ]; then
        status=unsupported
        reason="this benchmark_model writes no outputs, so nothing says whether it computes the right thing"
        hint="TensorFlow 2.11 and newer have --output_filepath."
    fi
}

compare() { # the outputs with the reference's; `compare last` also that of the timed runs
    if ! command -v awk >/dev/null || ! command -v od >/dev/null || [ $((n * k)) -gt $most_values ]; then
        status=unchecked
        return
    fi
    {
        od -A n -v -t f4 reference.f32
        echo answers
        each=0
        while [ $each -lt $n ]; do
            od -A n -v -t $format "$out/$each"
            each=$((each + 1))
        done
        if [ $# -gt 0 ]; then
            echo last
            od -A n -v -t $format "$out/last"
        fi
    } 2>/dev/null | awk -v n=$n -v k=$k -v scale=$scale -v zero=$zero -v classes=$classes -v cosine=$cosine \
        -v error=$error -v noise=$noise -v top1=$top1 -v response=$response -f ../gate.awk >"$out/gate" 2>&1
    correctness=$(sed -n 3p "$out/gate")
    case $(sed -n 1p "$out/gate") in
        ok) ;;
        wrong)
            status=wrong_output
            reason="$(sed -n 2p "$out/gate") ($precision)"
            [ $# = 0 ] || reason="it was right before the timing, but not in the timed runs: $reason"
            hint="The conversion or the runtime computes another function; its time would mean nothing."
            ;;
        *)
            correctness=null
            status=unchecked
            ;;
    esac
}

judge_times() {
    times=$(awk -f ../latency.awk "$out/timed") && return
    status=failed times=""
    reason="benchmark_model printed no times"
    hint="See $out/timed."
}

text() { # $1 as JSON has it
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[[:cntrl:]]/ /g; s/[\\"]/\\&/g')"
}

record() { # as host/results.schema.json has it; record.part is what the PC knew of it
    unit=$device # in the words of tools/android/record.py
    if [ "$delegate" = - ]; then
        [ "$threads" = 1 ] && unit="CPU 1 thread" || unit="CPU $threads threads"
        [ "$cores" = fast ] || [ -z "$kept" ] || unit="$unit, $cores cores"
    fi
    if [ "$status" = unchecked ]; then
        status=failed
        reason="its outputs are not compared with the reference yet: they are too many, or this phone has no awk and od that can"
        hint="python runner.py phone import FOLDER compares them, on a PC."
    fi
    echo "{"
    cat record.part
    echo "\"device\": $(text "$unit"), \"engine\": \"phone bundle\", \"simulated\": $simulated,"
    if [ -z "$status" ]; then
        echo "\"status\": \"ok\", \"reason\": null, \"hint\": null,"
        echo "$times,"
    else
        echo "\"status\": \"$status\", \"reason\": $(text "$reason"), \"hint\": $(text "$hint"),"
        echo "\"latency_ms\": null, \"throughput_per_s\": null,"
    fi
    echo "\"samples\": null, \"load_ms\": null, \"first_inference_ms\": null, \"peak_rss_mb\": null, \"energy\": null,"
    echo "\"correctness\": $correctness,"
    echo "\"metadata\": {\"scenario\": \"single-stream\", \"threads\": $threads, \"device_name\": $(text "$phone")}"
    echo "}"
}

# --- all of them -----------------------------------------------------------------------------------------------

write_results() { # results.json of what is done, again after each measurement
    {
        echo "{\"schema\": 1, \"run\": {\"id\": $(text "$started"), \"started\": $(text "$started"),"
        cat run.part
        echo "\"host\": {\"os\": $(text "Android $(getprop ro.build.version.release 2>/dev/null || echo not told)"), \"kernel\": $(text "$(uname -r)"),"
        echo "\"cpu\": $(text "$phone"), \"cores\": $n_cpus}}, \"records\": ["
        comma=""
        for done in results/*/sums; do
            [ -e "$done" ] || continue
            echo "$comma"
            cat "${done%/sums}/record.json"
            comma=","
        done
        echo "]}"
    } >results/.json 2>/dev/null && tail -n 1 results/.json | grep -q '^]}$' || storage_full
    mv results/.json results/results.json
    (cd results && for file in results.json bundle */sums; do
        [ -e "$file" ] && echo "$(sha256 "$file") $file"
    done >.sums && mv .sums sums) || storage_full
}

check_bundle
check_alone
. ./state.sh
look_at_cores
started=$(date +%Y-%m-%dT%H:%M:%S%z | sed 's/\(..\)$/:\1/')
phone=$(echo $(getprop ro.product.manufacturer 2>/dev/null) $(getprop ro.product.model 2>/dev/null))
[ -n "$(getprop ro.mobile_accelerator.simulated 2>/dev/null)" ] && simulated=true || simulated=false
command -v termux-wake-lock >/dev/null && termux-wake-lock
for plan in */plan.sh; do
    network=${plan%/plan.sh}
    . "./$plan"
    while read -r measurement device delegate cores threads flags <&3; do
        name=$network.$measurement
        if [ -e "results/$name/sums" ]; then
            echo "$name: done before"
            continue
        fi
        room
        echo "$name: ..."
        here=$PWD
        cd "$network" || exit 1
        measure "../results/$name" || storage_full
        cd "$here" || exit 1
        write_results
        echo "$name: ${status:-ok}${status:+: $reason}$(echo "$times" | sed -n 's/.*"p50": \([^,]*\),.*/: \1 ms (median)/p')"
    done 3<"$network/measurements"
done
write_results
rm -f results/pid
command -v termux-wake-unlock >/dev/null && termux-wake-unlock
echo "All is in $PWD/results. On a PC: python runner.py phone import FOLDER, of this folder or a .zip of it."
