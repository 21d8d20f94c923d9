#!/bin/sh
# frame.t: the frame of the command: finding a subcommand, help, exit codes, lost output.
. tests/cli/lib.sh

run "$KVTIER"
exits 2 "no command"
prints stdout "" "no command"
mentions stderr "Usage: kvtier COMMAND" "no command"

for way in help --help -h; do
	run "$KVTIER" $way
	exits 0 "$way"
	prints stderr "" "$way"
	mentions stdout "  help       Show what kvtier can do" "$way"
done

run "$KVTIER" --version
exits 0 "--version"
prints stdout "kvtier 0.1.0" "--version"

# Every command in the overview has help, by both ways the same.
commands=$("$KVTIER" help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
topics=$("$KVTIER" help | sed -n '/^Topics/,/^$/s/^  \([a-z]*\) .*/\1/p')
for command in $commands; do
	run "$KVTIER" "$command" --help
	exits 0 "$command --help"
	mentions stdout "kvtier $command" "$command --help"
	by_option=$(cat "$scratch/stdout")
	run "$KVTIER" help "$command"
	prints stdout "$by_option" "help $command"
done
for topic in $topics; do
	run "$KVTIER" help "$topic"
	exits 0 "help $topic"
	[ -s "$scratch/stdout" ]
	report $? "help $topic says something"
done

refuses 2 'kvtier: "hlep" is not a command, did you mean "help"?' "$KVTIER" hlep
refuses 2 'kvtier: "frobnicate" is not a command, see "kvtier help"' "$KVTIER" frobnicate
refuses 2 'kvtier: "\x01\xff" is not a command, see "kvtier help"' "$KVTIER" "$(printf '\001\377')"
refuses 2 'kvtier: there is no help on "unit", did you mean "units"?' "$KVTIER" help unit
refuses 2 'kvtier: "--hepl" is not an option, did you mean "--help"?' "$KVTIER" help --hepl
refuses 2 'kvtier: "x": expected nothing after "kvtier help units"' "$KVTIER" help units x

if [ -c /dev/full ]; then
	"$KVTIER" help >/dev/full 2>"$scratch/stderr"
	status=$?
	exits 1 "full disk"
	prints stderr "kvtier: cannot write to standard output: No space left on device" "full disk"
fi
"$KVTIER" help >&- 2>"$scratch/stderr"
status=$?
exits 1 "closed output"

finish
