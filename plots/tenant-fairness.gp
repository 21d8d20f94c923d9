# tenant-fairness.gp: a tenant's time to first token alone, and beside a neighbour that asks for ten
# times as much: served as one, by weight, and with reservations (experiments/fleet-noisy-neighbour.sh).
width = 1200
height = 700
load folder."/style.gp"
table = data."/tenant-fairness.csv"
set title "What a noisy neighbour does to a tenant: time to first token" font ",19"
set xrange [0.4:4.6]
set xtics scale 0
set xtics ("alone" 1, "x 10, served as one" 2, "x 10, by weight" 3, "x 10, reserved" 4)
set ylabel "Time to first token, s"
set logscale y
set yrange [0.3:3000]
unset grid
set grid ytics linewidth 0.8 linetype 1 linecolor rgb "#DDDDDD"
set boxwidth 0.26
set key top left
text(name) = sprintf(column(name) < 100 ? "%.2g" : "%.0f", column(name))
plot \
	table using ($0 + 0.72):"p50" with boxes fc rgb "#C9C9C9" title "p50", \
	table using ($0 + 1.00):"p95" with boxes fc rgb sky title "p95", \
	table using ($0 + 1.28):"p99" with boxes fc rgb blue title "p99", \
	table using ($0 + 0.72):"p50":(text("p50")) with labels offset 0,0.7 notitle, \
	table using ($0 + 1.00):"p95":(text("p95")) with labels offset 0,0.7 notitle, \
	table using ($0 + 1.28):"p99":(text("p99")) with labels offset 0,0.7 notitle
