# style.gp: how every figure looks: terminals, colours, lines, units of axes. It draws nothing.
#
# draw.sh sets `format` (png or svg), `out` (the file) and `data` (the folder of the CSV files); a
# figure may set `width` and `height` before it loads this.

if (!exists("width")) width = 1200
if (!exists("height")) height = 760
# In an SVG type is in pixels, not points, and points are drawn twice as large: `mark` and fontscale
# make both alike.
mark = format eq "svg" ? 0.55 : 1.0
if (format eq "svg") {
	set terminal svg size width,height enhanced fontscale 1.28 font "DejaVu Sans,17" background rgb "white"
} else {
	set terminal pngcairo size width,height enhanced font "DejaVu Sans,17" linewidth 1.0
}
set output out
set encoding utf8
set datafile separator comma

# Okabe and Ito's colours: told apart by colour-blind readers, and of different greys. A model has
# one colour in all figures; lines without a cache are dashed, published figures are dark outlines.
blue = "#0072B2"
orange = "#E69F00"
green = "#009E73"
vermilion = "#D55E00"
sky = "#56B4E9"
purple = "#CC79A7"
grey = "#8C8C8C"
ink = "#222222"
scout = blue
qwen = vermilion
r1 = green

set border 3 linewidth 1.2 linecolor rgb ink
set tics nomirror out scale 0.7 textcolor rgb ink
set grid xtics ytics linewidth 0.8 linetype 1 linecolor rgb "#DDDDDD"
set key opaque Left reverse noautotitle samplen 2 spacing 1.3 textcolor rgb ink
set style line 1 linewidth 3.2
set style fill solid 1.0 noborder
set bars 0.6
set lmargin 11
set rmargin 3
set tmargin 3.2
set title font ",19" offset 0,0.3 textcolor rgb ink

# Tokens on a log axis, as the documents write them.
token_ticks = '("10K" 1e4, "30K" 3e4, "100K" 1e5, "300K" 3e5, "1M" 1e6, "3M" 3e6, "10M" 1e7)'
# Seconds on a log axis, in the units people say them in.
time_ticks = '("10 ms" 0.01, "100 ms" 0.1, "1 s" 1, "10 s" 10, "1 min" 60, "10 min" 600, "1 h" 3600, "10 h" 36000)'

# Published figures come with units of their own; the length is part of the identifier.
seconds(value, unit) = value * (unit eq "ms" ? 1e-3 : unit eq "min" ? 60.0 : unit eq "h" ? 3600.0 : 1.0)
begins(text, start) = strlen(text) >= strlen(start) && text[1:strlen(start)] eq start
ends(text, end) = strlen(text) >= strlen(end) && text[strlen(text) - strlen(end) + 1:*] eq end
# A figure's identifier is MODEL-LENGTH-WHAT, or WHAT-baseline for one without a cache.
is_of(id, model, what) = begins(id, model) && ends(id, what) && !ends(id, "toks".what)
tokens_of(id) = begins(id, "qwen-1m-") ? 1e6 : begins(id, "scout-400k-") ? 4e5 : \
	begins(id, "r1-102k-") ? 1.02e5 : begins(id, "scout-10m-") ? 1e7 : NaN
