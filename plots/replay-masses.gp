# replay-masses.gp: the share of attention that stays when only some pages are attended to, replayed
# from recorded attention, by what chooses the pages.
width = 1200
height = 700
load folder."/style.gp"
masses = data."/replay-masses.csv"
set logscale x
set xrange [0.87:11.5]
set xtics ("1%%" 1, "2%%" 2, "5%%" 5, "10%%" 10)
set yrange [0:1]
set format y "%.1f"
set xlabel "Pages attended to, of those present"
mass(trace, chooser) = stringcolumn("trace") eq trace && stringcolumn("chooser") eq chooser ? column("mass") : NaN

set multiplot
set label 1 "Attention mass kept, replayed from recorded attention (layer 7, global)" at screen 0.5,0.955 center font ",19" textcolor rgb ink
set tmargin at screen 0.84
set bmargin at screen 0.28
set label 2 "● oracle" at screen 0.07,0.10 textcolor rgb blue
set label 3 "■ last step, all masses known" at screen 0.22,0.10 textcolor rgb green
set label 4 "▲ last step, only what it selected known" at screen 0.55,0.10 textcolor rgb vermilion
set label 5 "▼ none: the first page, the last ones, and what stayed in HBM" at screen 0.07,0.045 textcolor rgb ink

set lmargin at screen 0.08
set rmargin at screen 0.50
set title "32K tokens: a continuation, two retrievals" font ",17" offset 0,-0.3
set ylabel "Share of the attention mass" offset 1
trace = "code-32k-layer7"
plot \
	masses using "budget":(mass(trace, "oracle budgeted")) with linespoints lw 3 pt 7 ps 1.8*mark lc rgb blue, \
	masses using "budget":(mass(trace, "last-step exact")) with linespoints lw 3 pt 5 ps 1.6*mark lc rgb green, \
	masses using "budget":(mass(trace, "last-step budgeted")) with linespoints lw 3 pt 9 ps 1.9*mark lc rgb vermilion, \
	masses using "budget":(mass(trace, "none budgeted")) with linespoints lw 3 pt 11 ps 1.9*mark dt (6,4) lc rgb ink
do for [i = 1:5] { unset label i }

set lmargin at screen 0.56
set rmargin at screen 0.98
set title "128K tokens: one retrieval" font ",17" offset 0,-0.3
unset ylabel
trace = "code-128k-retrieval"
plot \
	masses using "budget":(mass(trace, "oracle budgeted")) with linespoints lw 3 pt 7 ps 1.8*mark lc rgb blue, \
	masses using "budget":(mass(trace, "last-step exact")) with linespoints lw 3 pt 5 ps 1.6*mark lc rgb green, \
	masses using "budget":(mass(trace, "last-step budgeted")) with linespoints lw 3 pt 9 ps 1.9*mark lc rgb vermilion, \
	masses using "budget":(mass(trace, "none budgeted")) with linespoints lw 3 pt 11 ps 1.9*mark dt (6,4) lc rgb ink
unset multiplot
