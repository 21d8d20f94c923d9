# link-use.gp: what a node's links are used for while a fleet serves a trace, second by second, and
# who runs and waits meanwhile (`kvtier fleet --telemetry`).
height = 860
load folder."/style.gp"
rows = data."/link-use.csv"
stats rows using "time_s" nooutput
set xrange [0:STATS_max] noextend
set lmargin at screen 0.085
set rmargin at screen 0.97
unset key

set multiplot
set label 1 "Mooncake conversations on two replicas of 4 x H100, 200 GB of DRAM and a drive for KV" at screen 0.5,0.962 center font ",18" textcolor rgb ink
set label 2 "■ drive" at screen 0.1,0.905 textcolor rgb vermilion
set label 3 "■ DRAM" at screen 0.2,0.905 textcolor rgb blue
set label 4 "■ PCIe of a replica, in" at screen 0.3,0.905 textcolor rgb green
set tmargin at screen 0.88
set bmargin at screen 0.53
set ylabel "Use in each second (%)" offset 1
set yrange [0:105]
set xtics format ""
plot \
	rows using "time_s":(100 * column("node_0_nvme_drives_use")) with steps lw 2.4 lc rgb vermilion, \
	rows using "time_s":(100 * column("node_0_dram_use")) with steps lw 2.4 lc rgb blue, \
	rows using "time_s":(100 * column("replica_0_pcie_in_use")) with steps lw 2.4 lc rgb green
unset label 1

set label 2 "■ transfers on the drive" at screen 0.1,0.475 textcolor rgb vermilion
set label 3 "■ requests with room in HBM" at screen 0.36,0.475 textcolor rgb sky
set label 4 "■ requests that wait" at screen 0.68,0.475 textcolor rgb orange
set tmargin at screen 0.45
set bmargin at screen 0.11
set xtics format "%g"
set xlabel "Time (s)"
set ylabel "At the end of each second" offset 1
set yrange [0:*]
plot \
	rows using "time_s":"running" with steps lw 2.4 lc rgb sky, \
	rows using "time_s":"waiting" with steps lw 2.4 lc rgb orange, \
	rows using "time_s":"node_0_nvme_drives_queue" with steps lw 2.4 lc rgb vermilion
unset multiplot
