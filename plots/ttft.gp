# ttft.gp: time to first token against context length, without a cache and from stored KV, with the
# published figures over it.
load folder."/style.gp"
set title "Time to first token on 4 x L40S: lines simulated, points published"
set logscale xy
set xrange [9e3:1.25e7] noextend
set yrange [4e-3:6e4]
set xlabel "Context length (tokens)"
set ylabel "Time to first token" offset 0.5
eval "set xtics ".token_ticks
eval "set ytics ".time_ticks
set key bottom right

at(model, what) = is_of(stringcolumn("id"), model, what) ? tokens_of(stringcolumn("id")) : NaN
time_of(name) = seconds(column(name), stringcolumn("unit"))
figures = data."/figures.csv"
scout_lengths = data."/scout-lengths.csv"
qwen_lengths = data."/qwen-lengths.csv"
set style line 2 linewidth 3.2 dashtype (8,5)

plot \
	for [what in "-baseline -turn2"] for [model in "scout- qwen- r1-"] figures using (at(model, what)):(time_of("simulated")):(time_of("low")):(time_of("high")) with yerrorbars pt 2 ps 1.6*mark lw 2.2 lc rgb grey title (model.what eq "scout--baseline" ? "simulated, low to high" : ""), \
	scout_lengths using "tokens":"cold_ttft_s" with lines ls 2 lc rgb scout, \
	qwen_lengths using "tokens":"cold_ttft_s" with lines ls 2 lc rgb qwen, \
	scout_lengths using "tokens":"resume_ttft_s" with lines ls 1 lc rgb scout, \
	qwen_lengths using "tokens":"resume_ttft_s" with lines ls 1 lc rgb qwen, \
	figures using (at("scout-", "-baseline")):(time_of("published")) with points pt 6 ps 2.4*mark lw 3 lc rgb scout, \
	figures using (at("scout-", "-turn2")):(time_of("published")) with points pt 7 ps 2.2*mark lw 3 lc rgb scout, \
	figures using (at("qwen-", "-baseline")):(time_of("published")) with points pt 8 ps 2.6*mark lw 3 lc rgb qwen, \
	figures using (at("qwen-", "-turn2")):(time_of("published")) with points pt 9 ps 2.4*mark lw 3 lc rgb qwen, \
	figures using (at("r1-", "-baseline")):(time_of("published")) with points pt 4 ps 2.1*mark lw 3 lc rgb r1, \
	figures using (at("r1-", "-turn2")):(time_of("published")) with points pt 5 ps 1.9*mark lw 3 lc rgb r1, \
	figures using (at("r1-", "-baseline")):(time_of("high")):("R1-70B, no cache") with labels center offset 0,1 textcolor rgb r1, \
	figures using (at("r1-", "-turn2")):(time_of("high")):("R1-70B, stored KV") with labels left offset -2,1 textcolor rgb r1, \
	scout_lengths every ::1::1 using "tokens":"cold_ttft_s":("Scout, no cache") with labels left offset -2.5,1.9 textcolor rgb scout, \
	qwen_lengths every ::3::3 using "tokens":"cold_ttft_s":("Qwen, no cache") with labels left offset 1,-0.6 textcolor rgb qwen, \
	scout_lengths every ::2::2 using "tokens":"resume_ttft_s":("Scout, stored KV") with labels center offset 0,1 textcolor rgb scout, \
	qwen_lengths every ::4::4 using "tokens":"resume_ttft_s":("Qwen, stored KV") with labels left offset 1,-0.5 textcolor rgb qwen, \
	NaN with points pt 6 ps 2.2*mark lw 3 lc rgb ink title "published, no cache", \
	NaN with points pt 7 ps 2.0*mark lw 3 lc rgb ink title "published, stored KV"
