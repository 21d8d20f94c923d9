#!/bin/sh
# models.t: `kvtier models`: what is listed, shown and imported, and what is refused.
. tests/cli/lib.sh

data=tests/unit/data/hf

# Every model file is listed, and shown in every format.
run "$KVTIER" models list
exits 0 "list"
prints stderr "" "list"
for file in models/llm/*.ini models/gpu/*.ini models/drive/*.ini models/nic/*.ini models/host/*.ini; do
	name=$(basename "$file" .ini)
	run "$KVTIER" models list
	mentions stdout " $name " "list"
	for format in table json csv; do
		run "$KVTIER" models show "$name" --format $format
		exits 0 "show $name --format $format"
		[ -s "$scratch/stdout" ]
		report $? "show $name --format $format says something"
	done
done
run "$KVTIER" models list gpu --format csv
exits 0 "list gpu"
[ "$(cut -d, -f1 "$scratch/stdout" | sort -u | tr '\n' ' ')" = "gpu kind " ]
report $? "list gpu lists only GPUs"
run "$KVTIER" models list llm --format json
mentions stdout '"name": "qwen2.5-7b-instruct-1m"' "list llm --format json"

# The arithmetic of the published tables.
run "$KVTIER" models show qwen2.5-7b-instruct-1m --tokens 1M --format json
mentions stdout '"kv_bytes": 57344000000.0' "Qwen at 1M"
mentions stdout '"parameters": 7615616512.0' "Qwen"
run "$KVTIER" models show llama-4-scout-17b-16e-fp8 --tokens 10M --format json
mentions stdout '"kv_bytes": 492727959552.0' "Scout at 10M: 4096 x (12 x 10M + 36 x 8192)"
mentions stdout '"kv_bytes_per_token_global": 49152.0' "Scout"
run "$KVTIER" models show llama-4-scout-17b-16e-fp8 --tokens 10M --ranks 4 --format json
mentions stdout '"kv_bytes": 123181989888.0' "a quarter of it a rank"
run "$KVTIER" models show h200-pcie5 --format csv
mentions stdout 'host,copy_to_gpu,54.7GB/s,,"measured: one H200 host' "h200-pcie5"
run "$KVTIER" models show ./models/drive/micron-9650.ini
exits 0 "show of a path"
mentions stdout "28GB/s" "show of a path"

refuses 2 'kvtier: "l40" is no model, did you mean "l40s"?' "$KVTIER" models show l40
refuses 2 'kvtier: "abacus" is no model, see "kvtier models list"' "$KVTIER" models show abacus
refuses 2 'kvtier: models: "lst" is not known, did you mean "list"? (one of list, show, check, fit, import)' \
	"$KVTIER" models lst
refuses 2 'kvtier: models list: "gpus" is not known, did you mean "gpu"? (one of llm, gpu, drive, nic, host)' \
	"$KVTIER" models list gpus
refuses 2 'kvtier: --tokens: "0" is out of range, expected 1 to 1G' \
	"$KVTIER" models show llama-3-70b --tokens 0
refuses 2 'kvtier: llama-3-70b has 64 query heads, expected ranks that divide them, not 3' \
	"$KVTIER" models show llama-3-70b --ranks 3
printf '[gpu]\ntitle = x\nsms = 4\n' >"$scratch/bad.ini"
refuses 2 "kvtier: $scratch/bad.ini:3: [gpu] sms: no source, expected sms.source or a source for the section" \
	"$KVTIER" models show "$scratch/bad.ini"
printf '[cpu]\ntitle = x\n' >"$scratch/bad.ini"
refuses 2 "kvtier: $scratch/bad.ini: is no model, expected a section [llm], [gpu], [drive], [nic], [host]" \
	"$KVTIER" models show "$scratch/bad.ini"

# What is imported shows the same sizes as what is shipped, and writes the same to a file.
for model in qwen2.5-7b-instruct-1m llama-3-70b llama-4-scout-17b-16e-fp8 mixtral-8x7b yi-34b-200k; do
	run "$KVTIER" models import $data/$model.json -o "$scratch/$model.ini"
	exits 0 "import $model"
	prints stdout "" "import $model -o"
	"$KVTIER" models import $data/$model.json >"$scratch/second.ini"
	cmp -s "$scratch/$model.ini" "$scratch/second.ini"
	report $? "import $model: file and output are the same"
	for what in "$model" "$scratch/$model.ini"; do
		"$KVTIER" models show "$what" --format json --ranks 4 |
			sed -n '/"derived"/,/}/p' >>"$scratch/$model.derived"
	done
	[ "$(sed -n '1,/}/p' "$scratch/$model.derived")" = "$(sed '1,/}/d' "$scratch/$model.derived")" ]
	report $? "import $model: sizes as shipped" "$(cat "$scratch/$model.derived")"
done
run "$KVTIER" models import $data/deepseek-v3.json --name "DeepSeek V3"
mentions stdout "title = DeepSeek V3" "import --name"
mentions stdout "mlp = dense*3 moe*58" "import of DeepSeek-V3"
mentions stdout "source = imported: deepseek-v3.json (DeepseekV3ForCausalLM)" "import of DeepSeek-V3"

sed 's/"llama"/"gpt2"/' $data/llama-3-70b.json >"$scratch/config.json"
run "$KVTIER" models import "$scratch/config.json" -o "$scratch/never.ini"
exits 2 "import of an unknown model_type"
prints stdout "" "import of an unknown model_type"
mentions stderr "$scratch/config.json: model_type: \"gpt2\" is not known, expected one of llama" "import"
[ ! -e "$scratch/never.ini" ]
report $? "a refused import writes nothing"
head -c 300 $data/llama-3-70b.json >"$scratch/config.json"
run "$KVTIER" models import "$scratch/config.json"
exits 2 "import of a cut file"
mentions stderr "kvtier: $scratch/config.json:12: not JSON" "import of a cut file"
refuses 2 "kvtier: no-such.json: cannot read the file: No such file or directory" \
	"$KVTIER" models import no-such.json
refuses 2 'kvtier: models import: expected CONFIG.json, see "kvtier models import --help"' \
	"$KVTIER" models import
if [ "$(id -u)" -ne 0 ]; then
	run "$KVTIER" models import $data/llama-3-70b.json -o /
	exits 1 "import into a folder"
fi

# A name may be told by its beginning, in any case.
for name in A100 h100 L40S Qwen2.5; do
	run "$KVTIER" models show $name
	exits 0 "show $name"
done
run "$KVTIER" models show micron
exits 2 "show of a name that several models begin with"

# Measured kernel times: the tables know their own rows, a fresh fit comes close to others.
kernels=tests/cli/data/kernels
# below FIGURE LIMIT NAME: a figure of the last run's JSON, the first of that name, is below LIMIT.
below() {
	value=$(sed -n "s/^  \"$1\": \([-+.0-9e]*\),*$/\1/p" "$scratch/stdout")
	awk -v v="$value" -v l="$2" 'BEGIN { exit !(v != "" && v + 0 < l) }'
	report $? "$3: $1 below $2" "it was $value"
}
for pair in l40s:l40s-decode-attention l40s:l40s-prefill-attention a100-80g:a100-gemm a100-80g:a100-nccl; do
	file=$kernels/${pair#*:}.csv
	run "$KVTIER" models check --gpu "${pair%%:*}" --kernels "$file" --format json
	exits 0 "check ${pair#*:}"
	prints stderr "" "check ${pair#*:}"
	below mape 0.04 "check ${pair#*:}"
	for key in schema rows mape p50 p90 worst; do
		mentions stdout "\"$key\":" "check ${pair#*:}"
	done
	cp "$scratch/stdout" "$scratch/one"
	"$KVTIER" models check --gpu "${pair%%:*}" --kernels "$file" --format json >"$scratch/two"
	cmp -s "$scratch/one" "$scratch/two"
	report $? "check ${pair#*:} twice is the same"
done
run "$KVTIER" models check --gpu a100 --kernels $kernels/a100-gemm.csv --kernels $kernels/a100-nccl.csv
mentions stdout "gemm " "check of two kinds"
mentions stdout "collective " "check of two kinds"
run "$KVTIER" models check --gpu a100 --kernels $kernels/a100-gemm.csv --leave-out 30% --seed 7 --format json
exits 0 "check --leave-out"
below mape 0.5 "check --leave-out of a tenth of the rows"
cp "$scratch/stdout" "$scratch/seven"
run "$KVTIER" models check --gpu a100 --kernels $kernels/a100-gemm.csv --leave-out 30% --seed 8 --format json
! cmp -s "$scratch/stdout" "$scratch/seven"
report $? "another seed leaves out other rows"
run "$KVTIER" models check --gpu a100 --kernels $kernels/a100-gemm.csv --min 1h --format json
exits 0 "check of no rows"
mentions stdout '"rows": 0' "check of no rows"
mentions stdout '"mape": null' "check of no rows"
run "$KVTIER" models check --gpu l40s --kernels $kernels/a100-gemm.csv --format json
mentions stdout '"rows": 0' "kernels that a GPU's table does not have are unknown"

run "$KVTIER" models fit --gpu a100 --kernels $kernels/a100-gemm.csv --kernels $kernels/a100-nccl.csv -o "$scratch/tables"
exits 0 "fit"
[ "$(cd "$scratch/tables" && echo ./*)" = "./a100-collective.table ./a100-gemm.table" ]
report $? "fit writes a table for each kind of kernel"
sed "s|kernels/a100|$scratch/tables/a100|; /^attention_table/d" models/gpu/a100-80g.ini >"$scratch/own.ini"
run "$KVTIER" models check --gpu "$scratch/own.ini" --kernels $kernels/a100-gemm.csv --format json
exits 0 "check of a fitted table"
below mape 0.04 "check of a fitted table on its own rows"

refuses 2 'kvtier: models check: expected --gpu NAME, see "kvtier models check --help"' \
	"$KVTIER" models check
refuses 2 'kvtier: models check: expected --kernels FILE.csv, see "kvtier models check --help"' \
	"$KVTIER" models check --gpu l40s
refuses 2 'kvtier: "l4s" is no gpu model, did you mean "l40s"?' \
	"$KVTIER" models check --gpu l4s --kernels $kernels/a100-gemm.csv
refuses 2 'kvtier: --leave-out: "0%", expected a share such as 30% or 1/4' \
	"$KVTIER" models check --gpu l40s --kernels $kernels/a100-gemm.csv --leave-out 0%
refuses 2 'kvtier: --train-below: "5/4", expected a share such as 30% or 1/4' \
	"$KVTIER" models check --gpu l40s --kernels $kernels/a100-gemm.csv --train-below 5/4
refuses 2 'kvtier: expected --leave-out or --train-below, not both' \
	"$KVTIER" models check --gpu l40s --kernels $kernels/a100-gemm.csv --train-below 1/4 --leave-out 30%
refuses 2 'kvtier: models fit: expected -o DIR' \
	"$KVTIER" models fit --gpu a100 --kernels $kernels/a100-nccl.csv
printf 'm,n,k\n1,2,3\n' >"$scratch/bad.csv"
run "$KVTIER" models check --gpu l40s --kernels "$scratch/bad.csv"
exits 2 "check of another CSV"
mentions stderr "kvtier: $scratch/bad.csv:1:" "check of another CSV"

# The same in, the same out.
"$KVTIER" models show l40s --format json >"$scratch/one"
"$KVTIER" models show l40s --format json >"$scratch/two"
cmp -s "$scratch/one" "$scratch/two"
report $? "show twice is the same"

finish
