# fleet-load.gp: time to first token of a fleet as requests come faster than in the trace: half of
# the requests, 95% and 99% of them.
load folder."/style.gp"
runs = data."/fleet-load.csv"
set title "Mooncake conversations on six replicas of 4 x H100: time to first token by load"
set xlabel "Requests come so many times as fast as in the trace (3.3 a second)"
set ylabel "Time to first token" offset 0.5
set logscale xy
stats runs using "load" nooutput
set xrange [STATS_min / 1.1:STATS_max * 1.1] noextend
set yrange [0.3:100]
set xtics (0.25, 0.5, 1, 1.5, 2, 3, 4, 6)
set ytics ("0.3 s" 0.3, "1 s" 1, "3 s" 3, "10 s" 10, "30 s" 30, "100 s" 100)
set key bottom right

plot \
	runs using "load":"p99" with linespoints ls 1 lc rgb vermilion pt 7 ps 1.4*mark title "99% of requests", \
	runs using "load":"p95" with linespoints ls 1 lc rgb orange pt 5 ps 1.4*mark title "95%", \
	runs using "load":"p50" with linespoints ls 1 lc rgb blue pt 9 ps 1.6*mark title "50%"
