# resume-timeline.gp: what a resume of Qwen2.5-7B-1M at 1M tokens does when: the whole time to first
# token, and a few milliseconds in the middle of it.
width = 1200
height = 760
load folder."/style.gp"
timeline = data."/resume-timeline.csv"
stats data."/figures.csv" using (stringcolumn("id") eq "qwen-1m-turn2" ? 1e3 * column("simulated") : NaN) nooutput
ttft = STATS_max
stats timeline using (stringcolumn("stage") eq "merge" && column("start_ms") < ttft / 2 ? column("start_ms") : NaN) nooutput
middle = STATS_max

row(track, lane) = track eq "loads" ? 3 - lane : track eq "compute" ? 1 : track eq "all-reduce" ? 0 : NaN
kind(stage) = stage eq "attention" ? 1 : stage eq "all_reduce" ? 2 : stage eq "merge" ? 3 : begins(stage, "load") ? 4 : 0
colour(kind) = word("#E69F00 #D55E00 #009E73 #222222 #56B4E9", kind + 1)
when(name, k) = kind(stringcolumn("stage")) == k ? column(name) : NaN
y(x) = row(stringcolumn("track"), column("lane"))

set multiplot
set label 1 "One resume, stage by stage: Qwen2.5-7B-1M at 1M tokens, KV from NVMe over RDMA" at screen 0.5,0.955 center font ",19" textcolor rgb ink
set yrange [-0.6:4.3]
set ytics scale 0 ("loads" 2.5, "compute" 1, "all-reduce" 0)
unset grid
set grid xtics linewidth 0.8 linetype 1 linecolor rgb "#DDDDDD"
set lmargin at screen 0.17
set rmargin at screen 0.97
set xlabel "Time since the request (ms)"

set tmargin at screen 0.89
set bmargin at screen 0.61
set xrange [0:ttft * 1.01]
set arrow 1 from ttft,graph 0 to ttft,graph 1 nohead lw 2 dt (6,4) lc rgb ink
set label 2 sprintf("first token at %.0f ms ", ttft) at ttft,graph 0.93 right offset -0.8,0 textcolor rgb ink
plot for [k = 0:4] timeline using (when("start_ms", k)):(y(0)):(when("start_ms", k)):(when("end_ms", k)):(y(0) - 0.36):(y(0) + 0.36) \
	with boxxyerror fs solid border rgb (k == 4 ? "white" : colour(k)) fc rgb colour(k)
unset label 1
unset label 2
unset arrow 1

set tmargin at screen 0.41
set bmargin at screen 0.17
set title sprintf("Where two layers have been loaded, %.0f to %.0f ms", middle - 2.5, middle + 3) font ",17" offset 0,-0.4
set xrange [middle - 2.5:middle + 3]
set label 3 "■ load" at screen 0.17,0.035 textcolor rgb sky
set label 4 "■ attention" at screen 0.30,0.035 textcolor rgb vermilion
set label 5 "■ QKV, output, MLP" at screen 0.47,0.035 textcolor rgb orange
set label 6 "■ all-reduce" at screen 0.70,0.035 textcolor rgb green
set label 7 "■ merge" at screen 0.86,0.035 textcolor rgb ink
plot for [k = 0:4] timeline using (when("start_ms", k)):(y(0)):(when("start_ms", k)):(when("end_ms", k)):(y(0) - 0.36):(y(0) + 0.36) \
	with boxxyerror fs solid border rgb (k == 4 ? "white" : colour(k)) fc rgb colour(k)
unset multiplot
