# two-worlds.gp: one resume twice: as the model has it and as it was measured, on one scale of time.
# `kvtier validate --picture` draws it; `what` is the experiment's title.
width = 1200
height = 800
load folder."/style.gp"
if (!exists("what")) what = "One resume, modelled and measured"
spans = data."/two-worlds.csv"
stats spans using "end_ms" nooutput
most = STATS_max

row(track, lane) = track eq "loads" ? 2 + (lane < 3 ? lane : 3) * 0.5 : 1
kind(stage) = stage eq "attention" ? 1 : stage eq "merge" ? 3 : begins(stage, "load") ? 4 : 0
colour(kind) = word("#E69F00 #D55E00 #009E73 #222222 #56B4E9", kind + 1)
begins(text, start) = strlen(text) >= strlen(start) && text[1:strlen(start)] eq start
of(world, name, k) = stringcolumn("world") eq world && kind(stringcolumn("stage")) == k ? column(name) : NaN
y(x) = row(stringcolumn("track"), column("lane"))

set multiplot
set label 1 what at screen 0.5,0.955 center font ",19" textcolor rgb ink
set yrange [0.4:4.1]
set xrange [0:most * 1.01]
set ytics scale 0 ("loads" 2.75, "compute" 1)
unset grid
set grid xtics linewidth 0.8 linetype 1 linecolor rgb "#DDDDDD"
set lmargin at screen 0.11
set rmargin at screen 0.97

set tmargin at screen 0.88
set bmargin at screen 0.61
set title "Model" font ",17" offset 0,-0.4
plot for [k = 0:4] spans using (of("model", "start_ms", k)):(y(0)):(of("model", "start_ms", k)):(of("model", "end_ms", k)):(y(0) - 0.22):(y(0) + 0.22) \
	with boxxyerror fs solid noborder fc rgb colour(k)
unset label 1

set tmargin at screen 0.48
set bmargin at screen 0.21
set title "Measured" font ",17" offset 0,-0.4
set xlabel "Time since the turn began to load (ms)"
set label 3 "■ load" at screen 0.11,0.035 textcolor rgb sky
set label 4 "■ attention" at screen 0.22,0.035 textcolor rgb vermilion
set label 5 "■ QKV, output, MLP, head: timed waits when measured" at screen 0.44,0.035 textcolor rgb orange
set label 7 "■ merge" at screen 0.345,0.035 textcolor rgb ink
plot for [k = 0:4] spans using (of("measured", "start_ms", k)):(y(0)):(of("measured", "start_ms", k)):(of("measured", "end_ms", k)):(y(0) - 0.22):(y(0) + 0.22) \
	with boxxyerror fs solid noborder fc rgb colour(k)
unset multiplot
