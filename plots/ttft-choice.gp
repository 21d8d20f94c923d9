# ttft-choice.gp: time to first token from stored KV against context length, when all pages are
# loaded, and when only those are that hold a share of the attention mass.
width = 1200
height = 930
load folder."/style.gp"
set title "Turn 2 of Llama-4-Scout, 4 x L40S: all pages, or those with a share of the mass"
set xlabel "Context length (tokens)" offset 0,0.5
set ylabel "Time to first token" offset 0.5
eval "set xtics ".token_ticks
eval "set ytics ".time_ticks
set key below vertical maxrows 9 noopaque spacing 1.2 font ",15"
curves = data."/curves.csv"
growth = data."/growth.csv"

stats growth using (stringcolumn("curve") eq "slap-99" ? column("recorded_to_tokens") : NaN) nooutput
recorded = STATS_max
set object 1 rectangle from recorded,graph 0 to graph 1,graph 1 behind fc rgb "#F4F4F4" fs solid noborder
set label 1 "recorded " at recorded,graph 0.96 right textcolor rgb grey
set label 2 " extrapolated: shares held" at recorded,graph 0.96 left textcolor rgb grey

ttft(id) = stringcolumn("curve") eq id ? column("resume_ttft_s") : NaN
# The title of a curve and its exponent, for the key; their order there is that of their ends.
ids = "exact slap-99-question slap-99-both slap-99 oracle-99 slap-95 slap-90 oracle-90"
colours = ink." ".vermilion." ".purple." ".blue." ".blue." ".green." ".orange." ".orange
oracle(id) = begins(id, "oracle")
titles = ""
do for [id in ids] {
	stats growth using (stringcolumn("curve") eq id ? column("exponent") : NaN) nooutput
	exponent = STATS_max
	stats growth using (stringcolumn("curve") eq id ? column("share") : NaN) nooutput
	titles = titles.sprintf("\"%s: exponent %.2f\" ", id eq "exact" ? "all pages" : \
		id eq "slap-99-question" ? sprintf("slap, 99%% for a whole question (%.0f%% of pages)", 100 * STATS_max) : \
		id eq "slap-99-both" ? sprintf("slap, 99%%, half the layers diffuse (%.0f%% of pages)", 100 * STATS_max) : \
		sprintf("%s, %s%% of the mass (%.0f%% of pages)", id[1:strlen(id) - 3], id[strlen(id) - 1:*], 100 * STATS_max), exponent)
}

set logscale xy
set xrange [9e3:1.25e7] noextend
set yrange [4e-2:60]
set style line 11 linewidth 3.2
set style line 12 linewidth 2.2 dashtype (6,4)
set style line 13 linewidth 2.2 dashtype (2,3)
plot for [i = 1:words(ids)] curves using "tokens":(ttft(word(ids, i))) with lines \
	ls (oracle(word(ids, i)) ? 12 : 11) lc rgb word(colours, i) title word(titles, i), \
	for [mass in "99 90"] curves using "tokens":(ttft("slap-".mass."-grown")) with lines ls 13 lc rgb (mass eq "99" ? blue : orange) \
	title (mass eq "99" ? "slap, with the shares of grown traces, which are too selective" : "")
