#!/bin/sh
# style.t: how the sources are written: clang-format, banned calls, state, shell scripts, and words
# that mean nothing to a user. Each rule prints what breaks it, and is shown to catch something.
. tests/cli/lib.sh

rooms='sim emu traces kernels models tests'
BUILD=${BUILD:-build}

c_files() {
	# shellcheck disable=SC2086
	find $rooms -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null | LC_ALL=C sort
}

formatted() {
	c_files | xargs "$formatter" --dry-run -Werror --style="file:$root/.clang-format" 2>&1 |
		sed -n 's/: error: code should be clang-formatted.*//p' | sort -u
}

# The code alone, as file:line:code: no comments, and strings and characters emptied.
code() {
	# shellcheck disable=SC2016
	xargs awk '
	FNR == 1 { inside = 0 }
	{
		rest = $0
		out = ""
		while (rest != "") {
			if (inside) {
				at = index(rest, "*/")
				if (!at)
					break
				rest = substr(rest, at + 2)
				inside = 0
			} else if (match(rest, /\/[*]|\/\/|"([^"\\]|\\.)*"|\047([^\047\\]|\\.)*\047/)) {
				token = substr(rest, RSTART, 2)
				out = out substr(rest, 1, RSTART - 1)
				rest = substr(rest, RSTART + RLENGTH)
				if (token == "//")
					break
				if (token == "/*")
					inside = 1
				else
					out = out "\"\""
			} else {
				out = out rest
				break
			}
		}
		if (out != "")
			print FILENAME ":" FNR ":" out
	}' /dev/null
}

calls() {
	grep -E "(^|[^A-Za-z0-9_>.])($1)[[:space:]]*\("
}

banned_calls() {
	c_files | code | calls 'v?sprintf|str(n?cpy|n?cat)|stpcpy|gets|strtok|ato[ilf]|system|popen|tmpnam|mktemp|alloca'
}

# Runs must not depend on when or where they are made.
chance() {
	c_files | grep -v '^tests/' | code | calls 's?rand|s?random|[dlm]rand48|time|gettimeofday|g_random_[a-z_]+'
}

# Library code neither ends the process nor prints; the command prints, and ends in main alone.
# trace_open.c ends a child process of its own.
ending() {
	c_files | grep -v -e '^tests/' -e '^sim/cmd/trace_open\.c$' | code | calls '_?exit|quick_exit|abort'
}
printing() {
	c_files | grep -vE '^tests/|^sim/cmd/' | code |
		grep -E '(^|[^A-Za-z0-9_>.])(printf|vprintf|puts|putchar|perror|g_print|g_printerr)[[:space:]]*\(|[^a-z_]stdout[^a-z_]'
}

fast_math() {
	grep -nHE '(-ffast-math|-Ofast|-funsafe-math)' Makefile tests/*.sh 2>/dev/null
}

# Variables of a library that outlive a call: none but GLib's quark of an error domain, the lock that
# HDF5, which is not thread-safe, needs, and what nvcc adds by which the runtime finds kernels.
mutable_state() {
	nm -A --format=sysv "$archive" | awk -F '|' '
		# a lock, a choice made once, what nvcc keeps for the device
		$4 ~ /OBJECT|TLS/ && $7 !~ /rodata|data\.rel\.ro|UND/ {
			gsub(/ /, "", $1)
			if ($1 !~ /:(q\.[0-9]+|library_lock|chosen\.[0-9]+|.*_cu_.*secretE|.*(__fatDeviceText|__cudaFatCubinHandle|__device_stub__.*))$/)
				print $1
		}'
}

shell_scripts() {
	find tests plots .ci -name '*.sh' -o -name '*.t' -o -path '.ci/run' 2>/dev/null | LC_ALL=C sort
}
shell_errors() {
	for script in $(shell_scripts); do
		case $(head -n 1 "$script") in
		*bash) bash -n "$script" 2>&1 ;;
		*) sh -n "$script" 2>&1 ;;
		esac
	done
}
shell_warnings() {
	shell_scripts | xargs shellcheck -f gcc 2>&1
}

# Written so that this file does not hold the words itself.
foreign_words() {
	find . -name .git -prune -o -name 'build*' -prune -o -path ./shared -prune -o -type f \
		! -name '*.h5' -print | LC_ALL=C sort | sed 's,^\./,,' |
		xargs grep -nHIE '/wor[k]/|/roo[t]/|/hom[e]/[a-z]|/far[m]/|share[d]/design|thi[s] session|://[a-z.-]*(registr[y]|mirro[r])[.]|pyp[i]\.org|de[b]\.debian\.|archiv[e]\.ubuntu\.|proxy\.golan[g]|crate[s]\.io|npmj[s]\.'
}
unfinished_words() {
	# shellcheck disable=SC2086
	find $rooms plots experiments .ci Makefile README.md -type f ! -name '*.h5' \
		! -name '*.table' 2>/dev/null | LC_ALL=C sort |
		xargs grep -nHIE '\b(TOD[O]|FIXM[E]|HAC[K])\b|no[t] implemented|[Nn]o[t] yet written'
}

root=$(pwd)
formatter=
for name in clang-format-14 clang-format; do
	if command -v "$name" >/dev/null && "$name" --version | grep -q 'version 14\.'; then
		formatter=$name
		break
	fi
done
if [ -n "$formatter" ]; then
	holds formatted "sources are as clang-format 14 writes them"
	catches formatted sim/base/bent.c 'int  f( void );'
else
	skip "sources are as clang-format 14 writes them" "there is no clang-format 14 here"
fi

holds banned_calls "no banned calls"
catches banned_calls sim/cmd/bad.c 'x = sprintf (buffer, "%s", name);'
catches banned_calls tests/unit/bad.c 'strcpy(a, b);'
holds chance "no hidden randomness or time of day"
catches chance sim/tier/dice.c '	return rand();'
holds ending "only main ends the program"
catches ending sim/cmd/quit.c 'if (x) /* why */ exit(1);'
holds printing "the library prints nothing"
catches printing models/loud.c 'printf("hello");'
catches printing traces/loud.c 'fputs(text, stdout);'
[ -z "$(mkdir -p "$scratch/tree/sim/base" && cd "$scratch/tree" && printf '%s\n' \
	'/* exit(1) */ f("printf(x)", my_exit(1)); // abort()' >sim/base/good.c && ending && printing)" ]
report $? "comments, strings and longer names are not calls"

holds fast_math "no fast-math"
catches fast_math Makefile 'CFLAGS = -O2 -ffast-math'

if nm "$BUILD/libkvtier.a" 2>/dev/null | grep -q __asan; then
	skip "the library keeps no mutable variables" "ASan adds its own; the plain build checks it"
else
	for archive in "$BUILD/libkvtier.a" "$BUILD/libkvtier-cmd.a"; do
		[ -s "$archive" ]
		report $? "$archive is there"
		holds mutable_state "$archive keeps no mutable variables"
	done
	archive=$scratch/state.o
	printf 'static int state;\nint *f(void);\nint *f(void)\n{\n\treturn &state;\n}\n' |
		${CC:-cc} -x c -c -o "$archive" -
	mutable_state | grep -q state
	report $? "the rule \"mutable_state\" catches a variable"
fi

holds shell_errors "shell scripts parse"
catches shell_errors tests/bad.sh 'if true; then'
if command -v shellcheck >/dev/null; then
	holds shell_warnings "shellcheck has nothing to say"
else
	skip "shellcheck has nothing to say" "there is no shellcheck here"
fi

holds foreign_words "no paths of a machine, no registries"
catches foreign_words README.md 'see /ho''me/someone/kvtier'
catches foreign_words models/x.ini '# from https://registr''y.example.org'
holds unfinished_words "nothing is marked as unfinished"
catches unfinished_words sim/base/later.c '/* TO''DO: later */'

finish
