# scorers.gp: the share of attention that pages hold which a prefetcher selects, by budget and by
# the bytes of sketch that it holds a token; replayed from a recorded retrieval.
width = 1200
height = 720
load folder."/style.gp"
scorers = data."/scorers.csv"
names = "oracle slap codes pq simhash arkvale centroid last-step quest"
colours = "#222222 #0072B2 #56B4E9 #009E73 #CC79A7 #D55E00 #E69F00 #8C8C8C #7A5C00"
symbols = "13 7 7 9 5 11 5 11 9"
mass(query, name, budget) = stringcolumn("query") eq query && stringcolumn("prefetch") eq name && (budget == 0 || column("budget") == budget) ? column("mass") : NaN

set multiplot
set label 1 "Attention mass kept in a retrieval, replayed from recorded attention (layer 7, 16K tokens)" at screen 0.5,0.955 center font ",19" textcolor rgb ink
set tmargin at screen 0.84
set bmargin at screen 0.26
set yrange [0.2:0.85]
set format y "%.1f"
set lmargin at screen 0.08
set rmargin at screen 0.50
set title "With the step's own query" font ",17" offset 0,-0.3
set ylabel "Share of the attention mass" offset 1
set logscale x
set xrange [0.87:11.5]
set xtics ("1%%" 1, "2%%" 2, "5%%" 5, "10%%" 10)
set xlabel "Pages selected, of those present"
set key at screen 0.5,0.075 center maxrows 2 width 1
plot for [i = 1:9] scorers using "budget":(mass("current", word(names, i), 0)) with linespoints lw 3 pt int(word(symbols, i)) ps 1.5*mark lc rgb word(colours, i) title word(names, i)
unset label 1

set lmargin at screen 0.56
set rmargin at screen 0.98
set title "2% of the pages; hollow: with the query before" font ",17" offset 0,-0.3
set yrange [0.32:0.62]
set ytics 0.1
unset ylabel
unset logscale x
set xrange [-1:22]
set xtics 0,4,20
set xlabel "Bytes of sketch a token and KV head"
unset key
plot for [i = 1:9] scorers using "bytes":(mass("current", word(names, i), 2)) with points pt int(word(symbols, i)) ps 2.2*mark lc rgb word(colours, i), \
	for [i = 1:9] scorers using "bytes":(mass("previous", word(names, i), 2)) with points pt int(word(symbols, i)) - 1 ps 2.2*mark lw 2.5 lc rgb word(colours, i)
unset multiplot
