# fleet-capacity.gp: what DRAM and drives are good for: blocks of prompts that are found, and time
# to first token, by how much of each a node has for KV.
height = 800
load folder."/style.gp"
runs = data."/fleet-capacity.csv"
set logscale x
set xrange [90:1800] noextend
set xtics ("100 GB" 100, "200 GB" 200, "400 GB" 400, "800 GB" 800, "1.6 TB" 1600)
of(drives, name) = column("nvme") == drives ? column(name) : NaN

set multiplot
set label 1 "Mooncake conversations, Llama 3 70B on two replicas of 4 x H100 in one node" at screen 0.5,0.955 center font ",19" textcolor rgb ink
set bmargin at screen 0.13
set tmargin at screen 0.83
set lmargin at screen 0.085
set rmargin at screen 0.49
set title "Blocks of prompts that are found (%)"
set xlabel "DRAM for KV"
set yrange [0:16]
set key bottom right
plot \
	runs using "dram":(100 * of(1600, "hit_rate")) with linespoints ls 1 lc rgb green pt 9 ps 1.6*mark title "1.6 TB of drives", \
	runs using "dram":(100 * of(400, "hit_rate")) with linespoints ls 1 lc rgb orange pt 5 ps 1.4*mark title "400 GB of drives", \
	runs using "dram":(100 * of(0, "hit_rate")) with linespoints ls 1 lc rgb blue pt 7 ps 1.4*mark title "no drives"

unset label 1
unset key
set lmargin at screen 0.57
set rmargin at screen 0.98
set title "Mean time to first token (s)"
set yrange [0:4]
plot \
	runs using "dram":(of(1600, "ttft")) with linespoints ls 1 lc rgb green pt 9 ps 1.6*mark, \
	runs using "dram":(of(400, "ttft")) with linespoints ls 1 lc rgb orange pt 5 ps 1.4*mark, \
	runs using "dram":(of(0, "ttft")) with linespoints ls 1 lc rgb blue pt 7 ps 1.4*mark
unset multiplot
