#!/bin/sh
# layout.t: the shape of the tree: who may include whom, unique file names, files that say what they
# are and stay short. Each rule prints what breaks it, and is shown to catch something that does.
. tests/cli/lib.sh

rooms='sim emu traces kernels models tests'

c_files() {
	# shellcheck disable=SC2086
	find $rooms -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null | LC_ALL=C sort
}

# Each room sits on those before it; traces on base alone, and models below core.
layering() {
	c_files | xargs grep -HE '^[[:space:]]*#[[:space:]]*include' /dev/null | awk '
	BEGIN {
		allow("sim/base", "")
		allow("models", "sim/base")
		allow("traces", "sim/base")
		allow("kernels", "")
		allow("sim/core", "models sim/base")
		allow("sim/tier", "sim/core models sim/base")
		allow("sim/cache", "sim/tier sim/core models sim/base")
		allow("sim/prefetch", "sim/cache sim/tier sim/core models sim/base")
		allow("sim/engine", "traces sim/prefetch sim/cache sim/tier sim/core models sim/base")
		allow("sim/fleet", "sim/engine traces sim/prefetch sim/cache sim/tier sim/core models sim/base")
		allow("sim/sweep", "sim/fleet sim/engine traces sim/prefetch sim/cache sim/tier sim/core models sim/base")
		allow("sim/plan", "sim/sweep sim/fleet sim/engine traces sim/prefetch sim/cache sim/tier sim/core models sim/base")
		core = "sim/core models sim/base"
		tier = "sim/tier " core
		engine = "sim/engine traces sim/prefetch sim/cache " tier
		allow("emu/loop", core)
		allow("emu/io", "emu/loop " core)
		allow("emu/store", "emu/io emu/loop " tier)
		allow("emu/tier", "emu/store emu/io emu/loop " tier)
		allow("emu/fabric", "emu/loop " core)
		allow("emu/remote", "emu/fabric emu/tier emu/store emu/io emu/loop " tier)
		allow("emu/device", "emu/loop " engine)
		allow("emu/gpu", "emu/device emu/tier emu/store emu/io emu/loop " engine)
		reality = "emu/gpu emu/device emu/remote emu/fabric emu/tier emu/store emu/io emu/loop"
		allow("emu/calibrate", reality " " engine)
		allow("emu/turn", "emu/calibrate " reality " " engine)
		reality = "emu/turn emu/calibrate " reality
		allow("sim/cmd", reality " sim/plan sim/sweep sim/fleet " engine)
		allow("tests", "sim/cmd " reality " sim/plan sim/sweep sim/fleet " engine)
	}
	function allow(room, below, n, i, list) {
		known[room] = 1
		ok[room, room] = 1
		ok[room, "kernels"] = 1
		n = split(below, list, " ")
		for (i = 1; i <= n; i++)
			ok[room, list[i]] = 1
	}
	function room_of(path, parts, n) {
		n = split(path, parts, "/")
		return parts[1] == "sim" || parts[1] == "emu" ? parts[1] "/" parts[2] : parts[1]
	}
	{
		file = substr($0, 1, index($0, ":") - 1)
		line = substr($0, index($0, ":") + 1)
		from = room_of(file)
		if (from == "kernels" && line ~ /<glib/)
			print file ": " line ": kernels/ uses no GLib"
		if (line !~ /"/)
			next
		split(line, quoted, "\"")
		to = room_of(quoted[2])
		if (!(from in known))
			print file ": " from " is not a room that the layering knows"
		else if (!((from, to) in ok))
			print file ": " line ": " from "/ may not include " to "/"
		else if (from == "kernels" && quoted[2] !~ /^kernels\/((kernels|cuda_[a-z0-9_]*|[a-z0-9_]*_lanes)\.h|cuda_[a-z0-9_]*\.cuh)$/)
			print file ": " line ": kernels/ includes its interfaces, loops over lanes and what CUDA sources share alone"
		else if (from != "kernels" && to == "kernels" && quoted[2] !~ /^kernels\/(cuda_)?kernels\.h$/)
			print file ": " line ": of kernels/, kernels.h and cuda_kernels.h alone may be included"
	}'
}

unique_names() {
	# shellcheck disable=SC2086
	find $rooms experiments plots -type f ! -path 'tests/fuzz/corpus/*' ! -name README.md \
		! -name '.*' 2>/dev/null | LC_ALL=C sort |
		awk -F / '$NF in seen { print $0 ": " seen[$NF] " has its name" } { seen[$NF] = $0 }'
}

# "/* name.c: what it is" in the first two lines.
first_lines() {
	c_files | while read -r file; do
		head -n 2 "$file" | grep -qF "* ${file##*/}: " || echo "$file: does not begin by saying what it is"
	done
}

# NAME_H, with KVT_ before it in the library; a header made to be included again and again says so.
header_guards() {
	c_files | grep -E '\.(h|cuh)$' | while read -r file; do
		guard=$(basename "${file%.*}" | tr 'a-z-' 'A-Z_')_H
		grep -qE "^#ifndef (KVT_)?$guard\$" "$file" && grep -qE "^#define (KVT_)?$guard\$" "$file" ||
			head -n 5 "$file" | grep -q 'includes this once for' || echo "$file: no guard KVT_$guard"
	done
}

short_files() {
	# shellcheck disable=SC2086
	find $rooms plots .ci Makefile \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' \
		-o -name '*.t' -o -name '*.gp' -o -name Makefile -o -name run \) -type f \
		-exec awk 'FNR == 601 { print FILENAME ": more than 600 lines" }' {} + 2>/dev/null
}

# About 60 lines, a test's about 80.
short_functions() {
	c_files | xargs awk '
		/^[{]/ { start = FNR }
		/^[}]/ {
			if (start && FNR - start > (FILENAME ~ /^tests/ ? 84 : 66))
				print FILENAME ":" start ": a function of " FNR - start " lines"
			start = 0
		}' /dev/null
}

top_level() {
	# shellcheck disable=SC2010
	ls | grep -vxE 'Makefile|README\.md|LICENSE|sim|emu|traces|kernels|models|experiments|plots|tests|build(-.*)?|shared'
}

holds layering "rooms include what is below them"
catches layering sim/base/up.c '#include "sim/core/loop.h"'
catches layering sim/tier/trace_tier.c '#include "traces/attention_trace.h"'
catches layering sim/engine/real.c '#include "emu/tier/uring_tier.h"'
catches layering emu/store/remote.c '#include "emu/remote/node.h"'
catches layering traces/model.h '#  include "models/llm.h"'
catches layering kernels/merge.c '#include <glib.h>'
catches layering kernels/gather.c '#include "sim/base/error.h"'
catches layering kernels/gather.cu '#include "sim/base/error.h"'
catches layering sim/base/beside.c '#include "beside.h"'

holds unique_names "file names are unique"
mkdir -p "$scratch/tree/models"
: >"$scratch/tree/models/twice.c"
catches unique_names sim/base/twice.c ''

holds first_lines "files begin by saying what they are"
catches first_lines sim/base/silent.c '#include <glib.h>'
holds header_guards "headers are guarded"
catches header_guards sim/base/open.h '/* open.h: not guarded. */'
catches header_guards kernels/cuda_open.cuh '/* cuda_open.cuh: not guarded. */'

holds short_files "files have 600 lines at most"
catches short_files sim/base/long.c "$(seq 1 601)"
holds short_functions "functions have about 60 lines at most"
catches short_functions sim/base/long_function.c "int f(void)\n{\n$(seq 1 70)\n}"
holds top_level "nothing new stands at the top"
catches top_level stray ''

finish
