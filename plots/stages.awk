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
# Stages of the compute stream follow one another; what is left of the time the GPUs wait.
function row(prefix, what,    ttft, at, attention, gemm, merge) {
	ttft = value[prefix "ttft_s"]
	at = prefix "stages."
	attention = value[at "attention_s"] / ttft
	gemm = (value[at "qkv_s"] + value[at "output_s"] + value[at "mlp_s"] + value[at "head_s"]) / ttft
	merge = value[at "merge_s"] / ttft
	printf "%s,%s,%.6f,%.6f,%.6f,%.6f\n", names[FILENAME] what, time_text(ttft), attention, gemm, merge,
		1 - attention - gemm - merge
}
FNR == 1 { names[FILENAME] = name }
{ value[$1] = $2 }
$1 == "seed" {
	row("cold.", ": no cache")
	row("", ": stored KV")
}
