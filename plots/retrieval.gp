# retrieval.gp: where the attention of a recorded layer is, step by step: over the whole context, and
# over the pages of the two passages that the model is asked for. Turns are marked.
width = 1200
height = 900
load folder."/style.gp"
turn_start(turn) = sprintf("stats '%s/heat.csv' using (column('turn') == %d ? column('step') : NaN) name 'T%d' nooutput", data, turn, turn)
eval turn_start(2)
eval turn_start(3)
eval turn_start(4)
stats data."/heat.csv" using (column("first_page") + column("pages")) name "PAGES" nooutput

# Masses below what a picture can show end the scale.
low = -4
tone(mass) = mass > 0 ? (log10(mass) < low ? low : log10(mass)) : NaN
set palette defined (0 "#F4F6F8", 0.35 "#9ECAE1", 0.6 "#0072B2", 0.8 "#E69F00", 1 "#8A1C00")
set cbrange [low:0]
set cbtics ("0.01%%" -4, "0.1%%" -3, "1%%" -2, "10%%" -1, "100%%" 0)
unset grid
unset key
set tics front
# Runs of pages are spread evenly over [first, end), one a row of the image.
do for [file in "heat heat_turn3 heat_turn4"] {
	eval sprintf("stats '%s/%s.csv' using 'bin' name 'BINS_%s' nooutput", data, file, file)
}
image(file, first, end) = sprintf("plot '%s/%s.csv' using 'step':(%d + (column('bin') + 0.5) * (%d - %d) / (BINS_%s_max + 1.0)):(tone(column('mass'))) with image", \
	data, file, first, end, first, file)
do for [turn in "3 4"] {
	start = value("T".turn."_min")
	set arrow from start - 0.5,graph 0 to start - 0.5,graph 1 nohead lw 1.6 lc rgb ink front
}

set multiplot
set label 1 "Two retrievals: attention mass by step and place in 32K tokens of context (layer 7)" at screen 0.5,0.965 center font ",19" textcolor rgb ink
set lmargin at screen 0.10
set rmargin at screen 0.86
set tmargin at screen 0.88
set bmargin at screen 0.50
set xrange [T2_min - 0.5:T4_max + 0.5]
set yrange [0:PAGES_max]
set ylabel "Page of 16 tokens" offset 1
set label 2 "turn 2: goes on" at T2_min + 4,graph 1.045 textcolor rgb ink font ",16"
set label 3 "turn 3: asked for page 615" at T3_min + 4,graph 1.045 textcolor rgb ink font ",16"
set label 4 "turn 4: asked for page 1,536" at T4_min + 4,graph 1.045 textcolor rgb ink font ",16"
eval image("heat", 0, PAGES_max)
do for [i = 1:4] { unset label i }
unset colorbox
unset arrow
set bmargin at screen 0.115
set tmargin at screen 0.375
set xlabel "Step (a token given or sampled)"
set lmargin at screen 0.10
set rmargin at screen 0.47
set xrange [T3_min - 0.5:T3_max + 0.5]
set yrange [608:628]
set title "Turn 3, closer" font ",17" offset 0,-0.4
eval image("heat_turn3", 608, 628)
unset ylabel
set lmargin at screen 0.54
set rmargin at screen 0.92
set xrange [T4_min - 0.5:T4_max + 0.5]
set yrange [1532:1552]
set title "Turn 4, closer" font ",17" offset 0,-0.4
eval image("heat_turn4", 1532, 1552)
unset multiplot
