# The record's `latency_ms` and `throughput_per_s` of what benchmark_model printed in its rounds, for a phone
# that has awk: of a round's three runs the second and the third (samples_of in tools/android/program.py).

$1 == "@@" && $2 == "round" { inside = 1; said = "" }
inside && match($0, /count=[0-9]+ .*/) { said = substr($0, RSTART) } # the last is the timed runs', after the warm-up
$1 == "@@" && $2 == "code" && inside {
    inside = 0
    if (said != "") {
        second = 3 * value("avg") - value("first") - value("curr")
        if (second < value("min")) second = value("min")
        if (second > value("max")) second = value("max")
        add(int(second + 0.5) / 1e3)
        add(value("curr") / 1e3)
    }
}

function value(name,  text) { # in us
    text = said
    if (!sub(".*[ ]" name "=", "", text)) { text = said; sub(/.*[ ]curr=/, "", text) } # all runs took the same
    return text + 0
}
function add(ms,  i) { # in order
    for (i = n++; i > 0 && s[i - 1] > ms; i--) s[i] = s[i - 1]
    s[i] = ms; sum += ms
}
function percentile(p,  at, below, above) { # as in tools/measure.py
    at = (n - 1) * p / 100; below = int(at); above = below + 1 < n ? below + 1 : n - 1
    return s[below] + (at - below) * (s[above] - s[below])
}

END {
    if (!n || sum <= 0) exit 1
    printf "\"latency_ms\": {\"p50\": %.9g, \"p90\": %.9g, \"p99\": %.9g, \"mean\": %.9g, \"min\": %.9g, \"max\": %.9g, ",
        percentile(50), percentile(90), percentile(99), sum / n, s[0], s[n - 1]
    printf "\"n\": %d, \"ci95_rel\": null},\n\"throughput_per_s\": %.9g", n, n * 1e3 / sum
}
