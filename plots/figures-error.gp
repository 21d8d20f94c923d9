# figures-error.gp: every published figure against what is simulated: the error, and how far low and
# high are from it when each uncertain setting is moved to its ends.
width = 1200
height = 940
load folder."/style.gp"
set title "Simulated over published, with low and high"
figures = data."/figures.csv"
set logscale x
set xrange [0.15:13]
set xtics ("x 0.2" 0.2, "x 0.5" 0.5, "equal" 1, "x 2" 2, "x 5" 5)
set xlabel "Simulated / published\n{/*0.9 circle: predicted      square: a constant was fitted to it      line: from low to high      shade: within 10%}" offset -9,-0.3
set lmargin 27
set ytics scale 0 font ",15"
unset grid
set grid xtics linewidth 0.8 linetype 1 linecolor rgb "#DDDDDD"
set arrow 1 from 1,graph 0 to 1,graph 1 nohead lw 1.5 lc rgb ink
set object 1 rectangle from 0.9,graph 0 to 1.1,graph 1 behind fc rgb "#EEF4F8" fs solid noborder
stats figures using "published" nooutput
set yrange [STATS_records + 0.7:0.3]

ratio(name) = column(name) / column("published")
free(yes) = stringcolumn("fitted") eq yes ? ratio("simulated") : NaN
percent(x) = sprintf("%+.1f%%", 100 * column("error"))

plot \
	figures using (ratio("low")):0:(ratio("high") - ratio("low")):(0):ytic(1) with vectors nohead lw 4 lc rgb "#9BC4DE", \
	figures using (free("false")):0 with points pt 7 ps 1.6*mark lc rgb blue, \
	figures using (free("true")):0 with points pt 5 ps 1.7*mark lc rgb orange, \
	figures using (12):0:(percent(0)) with labels right font ",15" textcolor rgb ink
