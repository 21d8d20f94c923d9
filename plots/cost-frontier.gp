# cost-frontier.gp: what a service costs an hour against how long 95% of its users wait at most: the
# fastest fleet for each sum, with the low and high of both, and the cheapest that does.
load folder."/style.gp"
plan = data."/cost-frontier.csv"
set title "Mooncake conversations on Llama 3 70B: the fastest fleets for their money"
set xlabel "US dollars an hour (low to high of what is not known exactly)"
set ylabel "95% of first tokens within" offset 0.5
set logscale xy
stats plan using "cost" nooutput
set xrange [STATS_min / 1.6:STATS_max * 1.5] noextend
stats plan using "p95_ttft_s" nooutput
set yrange [STATS_min / 1.6:STATS_max * 1.6]
stats plan using "slo_ttft_s" nooutput
slo = STATS_max
set xtics (10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500)
set ytics ("1 s" 1, "2 s" 2, "3 s" 3, "5 s" 5, "10 s" 10, "20 s" 20, "30 s" 30, "1 min" 60)
set key top right
answer(name) = stringcolumn("answer") eq "true" ? column(name) : NaN
# What is bought, without what every fleet of the example has.
label(text) = ends(text, ", 1 NIC") ? text[1:strlen(text) - strlen(", 1 NIC")] : text

plot \
	slo with lines lw 2.5 dt (8,5) lc rgb vermilion title "asked for", \
	plan using "cost":"p95_ttft_s" with steps lw 2.5 lc rgb sky, \
	plan using "cost":"p95_ttft_s":"cost_low":"cost_high":"p95_ttft_low":"p95_ttft_high" with xyerrorbars pt 7 ps 0.3 lw 1.6 lc rgb grey title "low to high, one input at a time", \
	plan using "cost":"p95_ttft_s" with points pt 7 ps 1.9*mark lc rgb blue title "a fleet", \
	plan using (answer("cost")):(answer("p95_ttft_s")) with points pt 6 ps 3.6*mark lw 3.5 lc rgb green title "the cheapest that does", \
	plan using "cost":"p95_ttft_s":(label(stringcolumn("config"))) with labels right offset -1.1,-0.75 font ",13" textcolor rgb ink
