# lib.sh: TAP for tests of the kvtier command; a test is a .t file that sources this, run by prove
# in the repository's root. $KVTIER is the command, $scratch a folder that goes away.
# shellcheck shell=sh

KVTIER=${KVTIER:-build/kvtier}
tests=0
failed=0
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

# run COMMAND...: keeps its exit status and what it wrote for the checks below.
run() {
	"$@" >"$scratch/stdout" 2>"$scratch/stderr"
	status=$?
}

# report GOOD NAME [DETAIL]: prints one TAP line; GOOD is 0 when the check held.
report() {
	tests=$((tests + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $tests - $2"
		return
	fi
	failed=$((failed + 1))
	echo "not ok $tests - $2"
	[ -z "$3" ] || printf '%s\n' "$3" | sed 's/^/# /'
}

# skip NAME REASON: a check that cannot be made here; said on stderr too, where prove lets it through.
skip() {
	tests=$((tests + 1))
	echo "ok $tests - $1 # SKIP $2"
	echo "# SKIPPED: $1: $2" >&2
}

# holds RULE NAME: the rule, a function that prints what breaks it, prints nothing for this tree.
holds() {
	offenders=$($1)
	[ -z "$offenders" ]
	report $? "$2" "$offenders"
}

# catches RULE FILE TEXT: in a tree of nothing but this file, the rule names it.
catches() {
	mkdir -p "$scratch/tree/$(dirname "$2")"
	printf '%b\n' "$3" >"$scratch/tree/$2"
	offenders=$(cd "$scratch/tree" && $1)
	rm -rf "$scratch/tree"
	case $offenders in
	*"$2"*) report 0 "the rule \"$1\" catches a $2" ;;
	*) report 1 "the rule \"$1\" catches a $2" "it said: $offenders" ;;
	esac
}

# exits STATUS NAME: the last run ended with this status.
exits() {
	[ "$status" -eq "$1" ]
	report $? "$2: exit status $1" "it was $status; stderr: $(cat "$scratch/stderr")"
}

# prints stdout|stderr TEXT NAME: the last run wrote exactly this line or these lines there.
prints() {
	[ "$(cat "$scratch/$1")" = "$2" ]
	report $? "$3: $1" "expected: $2
got: $(cat "$scratch/$1")"
}

# mentions stdout|stderr TEXT NAME: the text occurs there.
mentions() {
	grep -qF -- "$2" "$scratch/$1"
	report $? "$3: $1 mentions $2" "got: $(cat "$scratch/$1")"
}

# json PERL NAME: the last run's stdout is JSON, and the Perl expression, over it as $j, is true. What
# the expression puts into @why is shown when it is not.
json() {
	detail=$(perl -MJSON::PP -e 'our ($j, @why); $j = do { local $/; decode_json(<STDIN>) };
		my $good = eval $ARGV[0]; print $@, join("\n", @why); exit !$good' "$1" \
		<"$scratch/stdout" 2>&1)
	report $? "$2" "not so: $1
$detail"
}

# refuses STATUS MESSAGE COMMAND...: it fails with the one line on stderr and nothing on stdout.
refuses() {
	expected_status=$1
	expected=$2
	shift 2
	run "$@"
	exits "$expected_status" "$*"
	prints stderr "$expected" "$*"
	prints stdout "" "$*"
}

# finish: the plan; last line of a test.
finish() {
	echo "1..$tests"
	[ "$failed" -eq 0 ]
}
