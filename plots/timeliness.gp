# timeliness.gp: the share of the pages that a step needs which are in HBM as its attention begins,
# by how long before that they could be asked for, and by what asks.
width = 1200
height = 720
load folder."/style.gp"
timeliness = data."/timeliness.csv"
set logscale x
set xrange [0.9e-5:1.15e-3]
set xtics ("10 us" 1e-5, "30 us" 3e-5, "100 us" 1e-4, "300 us" 3e-4, "1 ms" 1e-3)
set yrange [0:1]
set format y "%.1f"
set xlabel "Time between two steps' attention"
timely(room, chooser) = stringcolumn("room") eq room && stringcolumn("chooser") eq chooser ? column("timely") : NaN

set multiplot
set label 1 "Pages in HBM on time, of those that a step needs (layer 7, 1,024 pages)" at screen 0.5,0.955 center font ",19" textcolor rgb ink
set tmargin at screen 0.84
set bmargin at screen 0.28
set label 2 "● oracle (sees the future)" at screen 0.07,0.10 textcolor rgb blue
set label 3 "■ slap" at screen 0.36,0.10 textcolor rgb vermilion
set label 4 "▲ simhash" at screen 0.47,0.10 textcolor rgb green
set label 5 "◆ quest" at screen 0.62,0.10 textcolor rgb purple
set label 6 "▼ last step" at screen 0.75,0.10 textcolor rgb ink
set label 7 "needed: the best 2%, in pages as large as those of 12 layers of Llama-4-Scout; NVMe over RDMA" at screen 0.07,0.045 textcolor rgb grey font ",16"
choosers = "oracle slap simhash quest last-step"
colours = blue." ".vermilion." ".green." ".purple." ".ink
marks = "7 5 9 13 11"

set lmargin at screen 0.08
set rmargin at screen 0.50
set title "HBM holds 10%, 1% may be moved a step" font ",17" offset 0,-0.3
set ylabel "Share of the needed pages" offset 1
plot for [i = 1:5] timeliness using "lead_s":(timely("10", word(choosers, i))) \
	with linespoints lw 3 pt int(word(marks, i)) ps 1.7*mark lc rgb word(colours, i)
do for [i = 1:7] { unset label i }

set lmargin at screen 0.56
set rmargin at screen 0.98
set title "HBM holds 2%, any number may be moved" font ",17" offset 0,-0.3
unset ylabel
plot for [i = 1:5] timeliness using "lead_s":(timely("2", word(choosers, i))) \
	with linespoints lw 3 pt int(word(marks, i)) ps 1.7*mark lc rgb word(colours, i)
unset multiplot
