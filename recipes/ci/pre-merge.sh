#!/bin/sh
# Gate a candidate before it is merged:
#
#   recipes/ci/pre-merge.sh CANDIDATE [FOLDER_FOR_REPORTS]
#
# CANDIDATE is a model folder, an output folder of `inc-laaciq quantize`, or a results file that is there already.
# The exit code is that of `inc-laaciq gate`: 0 pass, 3 a language is harmed, 4 undecided, 5 not comparable.
set -eu

if [ $# -lt 1 ]; then
    echo "usage: pre-merge.sh CANDIDATE [FOLDER_FOR_REPORTS]" >&2
    exit 2
fi
candidate=$1
reports=${2:-gate-reports}
: "${TEXTS:=ci/texts}" "${BASELINE:=ci/baseline.json}" "${POLICY:=ci/policy.yaml}"

inc-laaciq gate --validate "$POLICY"
mkdir -p "$reports"
case $candidate in
    *.json) results=$candidate ;;
    *)
        results=$reports/results.json
        inc-laaciq evaluate "$candidate" --texts "$TEXTS" --tokens-per-language 0 -o "$results"
        ;;
esac
exec inc-laaciq gate "$results" --baseline "$BASELINE" --policy "$POLICY" --strict \
    --html "$reports/gate.html" --json "$reports/gate.json"
