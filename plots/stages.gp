# stages.gp: what the GPUs do until the first token, as shares of it, without a cache and from stored
# KV: computing, or waiting for all-reduces or for pages.
load folder."/style.gp"
set title "What the GPUs do until the first token (at the right: how long that is)"
stages = data."/stages.csv"
set xrange [0:100]
set yrange [7.6:-0.6]
set format x "%g%%"
set xlabel "Share of the time to first token"
set lmargin 24
set rmargin 12
set ytics scale 0
unset grid
set grid xtics linewidth 0.8 linetype 1 linecolor rgb "#DDDDDD"
set bmargin 6.5
set label 1 "■ attention" at screen 0.10,0.035 textcolor rgb vermilion
set label 2 "■ GEMM" at screen 0.27,0.035 textcolor rgb orange
set label 3 "■ merging windows" at screen 0.39,0.035 textcolor rgb ink
set label 4 "■ waiting for all-reduces and pages" at screen 0.61,0.035 textcolor rgb grey

# The columns up to the n-th stage, as a share.
from(n) = n == 3 ? 0 : 100 * sum [i = 3:n - 1] column(i)
to(n) = 100 * sum [i = 3:n] column(i)
colours = "#D55E00 #E69F00 #222222 #B5B5B5"
plot \
	for [n = 3:6] stages using ((from(n) + to(n)) / 2):0:(from(n)):(to(n)):($0 - 0.36):($0 + 0.36):ytic(1) skip 1 with boxxyerror fs solid noborder fc rgb word(colours, n - 2), \
	stages using (101):0:2 skip 1 with labels left font ",15" textcolor rgb ink
