# timeline.awk: from the timeline of `kvtier run --timeline` to CSV: track, lane, stage, start_ms and
# end_ms; what overlaps on a track is put on lanes of its own.
# It reads kvtier's own JSON, one event a line, and no other.
function text(key,    at, rest) {
	at = index($0, "\"" key "\":\"")
	if (!at)
		return ""
	rest = substr($0, at + length(key) + 4)
	return substr(rest, 1, index(rest, "\"") - 1)
}
function number(key,    at) {
	at = index($0, "\"" key "\":")
	return at ? substr($0, at + length(key) + 3) + 0 : 0
}
BEGIN { print "track,lane,stage,start_ms,end_ms" }
text("name") == "process_name" {
	track[number("pid")] = substr($0, index($0, "\"args\":{\"name\":\"") + 16)
	sub(/".*/, "", track[number("pid")])
}
text("ph") == "X" {
	name = track[number("pid")]
	start = number("ts") / 1000
	for (lane = 0; start < busy[name, lane] - 1e-9; lane++)
		;
	busy[name, lane] = start + number("dur") / 1000
	printf "%s,%d,%s,%.6f,%.6f\n", name, lane, text("name"), start, busy[name, lane]
}
