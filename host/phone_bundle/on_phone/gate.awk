# The gate of tools/gate.py for a phone that has od and awk: n outputs of k values against the reference's.
#
#     { od of the reference; echo answers; od of all outputs; [echo last; od of the timed runs' output;] } |
#         awk -v n= -v k= -v scale= -v zero= -v classes= -v cosine= -v error= -v noise= -v top1= -v response= -f gate.awk
#
# Three lines: `ok` or `wrong`; what is wrong; the record's `correctness`. With `last`, that output takes the
# place of the first, which it is to be like, and must be nearer to it than to any other (benchmark.check_last).
# scale and zero point make numbers of a quantised network's integers; a scale of 0: they are numbers.

$1 == "answers" || $1 == "last" { part = $1; next }
{
    for (i = 1; i <= NF; i++) {
        odd = $i ~ /[nN]/ # nan, inf
        value = odd ? 0 : $i + 0
        if (part == "") {
            e[n_e++] = value
            continue
        }
        n_odd += odd
        if (scale + 0 != 0) value = (value - zero) * scale
        if (part == "last") l[n_l++] = value
        else f[n_f++] = value
    }
}

function root(x,  y, i) { # Newton's; busybox's awk may be built without sqrt
    y = x > 1 ? x : 1
    for (i = 0; i < 100; i++) y = (y + x / y) / 2
    return y
}
function abs(x) { return x < 0 ? -x : x }
function end(verdict, text, correctness) {
    print verdict
    print text
    print correctness
    ended = 1
    exit
}
function number(x) { return sprintf("%.9g", x) }

END {
    if (ended) exit
    none = "{\"max_abs\": null, \"cosine\": null, \"top1_match\": null, \"top5_overlap\": null, \"n_inputs\": " n "}"
    if (n_e != n * k || n_f != n * k || (part == "last" && n_l != k))
        end("wrong", "the output has " (part == "last" ? n_l : n_f) + 0 " values, the reference " n_e + 0, none)
    if (n_odd)
        end("wrong", n_odd " of the output values are not finite numbers", none)
    if (part == "last") {
        nearest = 0
        for (r = 0; r < n; r++) {
            far[r] = 0
            for (j = 0; j < k; j++) if (abs(l[j] - f[r * k + j]) > far[r]) far[r] = abs(l[j] - f[r * k + j])
            if (far[r] < far[nearest]) nearest = r
        }
        for (j = 0; j < k; j++) f[j] = l[j]
    }
    lowest = 2
    for (r = 0; r < n; r++) {
        row = r * k
        sum = 0; low = high = e[row]; first = row
        for (j = row; j < row + k; j++) {
            sum += e[j]
            if (e[j] < low) low = e[j]
            if (e[j] > high) high = e[j]
            if (f[j] > f[first]) first = j
        }
        spread = high > low ? high - low : 1
        if (spread > widest) widest = spread
        dot = found = expected = off = 0
        for (j = row; j < row + k; j++) {
            x = f[j] - sum / k; y = e[j] - sum / k
            dot += x * y; found += x * x; expected += y * y
            if (abs(f[j] - e[j]) > off) off = abs(f[j] - e[j])
        }
        cos_r = found > 0 && expected > 0 ? dot / root(found) / root(expected) : off == 0
        if (cos_r < lowest) { lowest = cos_r; lowest_at = r }
        if (off / spread > farthest) { farthest = off / spread; farthest_at = r }
        if (off > max_abs) max_abs = off
        hits += e[first] >= high - 2 * noise * spread
    }
    wanted_max = got_max = 0
    for (j = 0; j < k; j++) {
        mean_e = mean_f = 0
        for (r = 0; r < n; r++) { mean_e += e[r * k + j] / n; mean_f += f[r * k + j] / n }
        for (r = 0; r < n; r++) {
            x = f[r * k + j] - mean_f; y = e[r * k + j] - mean_e
            together += x * y; got += x * x; wanted += y * y
            if (abs(y) > wanted_max) wanted_max = abs(y)
            if (abs(x) > got_max) got_max = abs(x)
        }
    }
    if (wanted_max <= 2 * noise * widest) follows = 1
    else if (got_max <= 0.01 * wanted_max) follows = 0
    else follows = together / root(got) / root(wanted)

    match1 = classes ? number(hits / n) : "null"
    said = "{\"max_abs\": " number(max_abs) ", \"cosine\": " number(lowest) ", \"top1_match\": " match1
    said = said ", \"top5_overlap\": null, \"n_inputs\": " n "}"
    if (follows == 0)
        end("wrong", "it gives the same output for every input, the reference does not", said)
    if (lowest < cosine)
        end("wrong", sprintf("the output differs from the reference: cosine %.6f on input %d, at least %s is right",
            lowest, lowest_at, cosine), said)
    if (farthest > error)
        end("wrong", sprintf("the output is off by %.2f%% of its spread on input %d, at most %.1f%% is right",
            100 * farthest, farthest_at, 100 * error), said)
    if (follows < response)
        end("wrong", sprintf("the output does not follow the input: correlation with the reference %.2f", follows), said)
    if (classes && hits / n < top1)
        end("wrong", sprintf("the first class is the reference's on %d%% of the inputs only", 100 * hits / n), said)
    if (part == "last" && nearest != 0)
        end("wrong", "the timed runs were given input 0 and answered as to input " nearest, said)
    end("ok", "", said)
}
