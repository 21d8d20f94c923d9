# speedup.gp: how many times sooner the first token comes from stored KV than without a cache,
# against context length, with the published figures over it.
load folder."/style.gp"
set title "Speedup of the first token by stored KV: lines simulated, points published"
set logscale xy
set xrange [9e3:1.25e7] noextend
set yrange [30:2000]
set xlabel "Context length (tokens)"
set ylabel "TTFT without a cache / TTFT from stored KV" offset 0.5
eval "set xtics ".token_ticks
set key bottom right
set ytics ("30x" 30, "50x" 50, "100x" 100, "200x" 200, "500x" 500, "1000x" 1000, "2000x" 2000)

at(model, what) = is_of(stringcolumn("id"), model, what) ? tokens_of(stringcolumn("id")) : NaN
figures = data."/figures.csv"

plot \
	data."/scout-lengths.csv" using "tokens":"speedup" with lines ls 1 lc rgb scout, \
	data."/qwen-lengths.csv" using "tokens":"speedup" with lines ls 1 lc rgb qwen, \
	for [model in "scout- qwen- r1-"] figures using (at(model, "-speedup")):"simulated":"low":"high" with yerrorbars pt 2 ps 1.6*mark lw 2.2 lc rgb grey title (model eq "scout-" ? "simulated, low to high" : ""), \
	figures using (at("scout-", "-speedup")):"published" with points pt 7 ps 2.2*mark lw 3 lc rgb scout, \
	figures using (at("qwen-", "-speedup")):"published" with points pt 9 ps 2.4*mark lw 3 lc rgb qwen, \
	figures using (at("r1-", "-speedup")):"published" with points pt 5 ps 1.9*mark lw 3 lc rgb r1, \
	data."/scout-lengths.csv" every ::6::6 using "tokens":"speedup":("Scout") with labels right offset -1,1 textcolor rgb scout, \
	data."/qwen-lengths.csv" every ::12::12 using "tokens":"speedup":("Qwen") with labels left offset 0,-1.2 textcolor rgb qwen, \
	figures using (at("r1-", "-speedup")):"published":("R1-70B") with labels left offset 1.5,0 textcolor rgb r1, \
	NaN with points pt 7 ps 2.0*mark lw 3 lc rgb ink title "published"
