# throughput.gp: tokens a second over a whole turn (first token and 128 output tokens), published
# and simulated, without a cache and from stored KV.
width = 1200
height = 700
load folder."/style.gp"
figures = data."/figures.csv"
set xrange [0.35:6.65]
set xtics scale 0
set xtics ("Qwen 1M" 1.5, "Scout 400K" 3.5, "R1 102K" 5.5)
unset grid
set grid ytics linewidth 0.8 linetype 1 linecolor rgb "#DDDDDD"
set boxwidth 0.76
unset key

slot(id) = begins(id, "qwen-") ? 1.5 : begins(id, "scout-") ? 3.5 : begins(id, "r1-") ? 5.5 : NaN
at(what, offset) = ends(stringcolumn("id"), what) ? slot(stringcolumn("id")) + offset : NaN
label(name) = sprintf(column(name) < 10 ? "%.2g" : "%.3g", column(name))

set multiplot
set label 2 "light: published     dark: simulated     line: from low to high" at screen 0.5,0.05 center textcolor rgb ink
set label 1 "Throughput of a whole turn with 128 output tokens, 4 x L40S" at screen 0.5,0.95 center font ",19" textcolor rgb ink
set bmargin at screen 0.18
set tmargin at screen 0.81

set lmargin at screen 0.085
set rmargin at screen 0.50
set title "without a cache"
set ylabel "Output tokens per second" offset 1
set yrange [0:4.2]
plot \
	figures using (at("-toks-baseline", -0.4)):"published" with boxes fc rgb "#C9C9C9", \
	figures using (at("-toks-baseline", 0.4)):"simulated" with boxes fc rgb "#7A7A7A", \
	figures using (at("-toks-baseline", 0.4)):"low":(0):(column("high") - column("low")) with vectors nohead lw 2.5 lc rgb ink, \
	figures using (at("-toks-baseline", -0.4)):(0):(label("published")) with labels offset 0,0.7, \
	figures using (at("-toks-baseline", 0.4)):(0):(label("simulated")) with labels offset 0,0.7 textcolor rgb "white"

unset label 1
unset label 2
set lmargin at screen 0.57
set rmargin at screen 0.98
set title "from stored KV"
unset ylabel
set yrange [0:60]
plot \
	figures using (at("-toks", -0.4)):"published" with boxes fc rgb sky, \
	figures using (at("-toks", 0.4)):"simulated" with boxes fc rgb blue, \
	figures using (at("-toks", -0.4)):(0):(label("published")) with labels offset 0,0.7, \
	figures using (at("-toks", 0.4)):(0):(label("simulated")) with labels offset 0,0.7 textcolor rgb "white", \
	figures using (at("-toks", 0.4)):"low":(0):(column("high") - column("low")) with vectors nohead lw 2.5 lc rgb ink
unset multiplot
