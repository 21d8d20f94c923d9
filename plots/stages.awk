# stages.awk: from the CSV of `kvtier run FILE.ini`, one after another, to one row a turn: its name,
# its time to first token as text, and the shares of it that the GPUs spend on each kind of work.
BEGIN { FS = ","; print "turn,ttft,attention,gemm,merge,waiting" }
function time_text(seconds) {
	if (seconds >= 3600)
		return sprintf("%.1f h", seconds / 3600)
	if (seconds >= 60)
		return sprintf("%.1f min", seconds / 60)
	return seconds >= 1 ? sprintf("%.1f s", seconds) : sprintf("%.0f ms", seconds * 1000)
}
function row(prefix, what,    ttft, at) {
	ttft = value[prefix "ttft_s"]
	at = prefix "stages."
	printf "%s,%s,%.6f,%.6f,%.6f,%.6f\n", names[FILENAME] what, time_text(ttft), value[at "attention_s"] / ttft, \
		(value[at "qkv_s"] + value[at "output_s"] + value[at "mlp_s"] + value[at "head_s"]) / ttft, \
		value[at "merge_s"] / ttft, value[at "waiting_s"] / ttft
}
FNR == 1 { names[FILENAME] = name }
{ value[$1] = $2 }
$1 == "seed" {
	row("cold.", ": no cache")
	row("", ": stored KV")
}
