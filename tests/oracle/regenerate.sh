#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes the tiny checkpoints, their goldens and faults.json again and compares them with the committed ones.
#   tests/oracle/regenerate.sh            compare; exit status 1 if something differs
#   tests/oracle/regenerate.sh --update   put the new files in place
# PYTHON (default python3) needs torch and numpy; HF_PYTHON, if set, the packages of requirements.txt.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
update=false
case $* in
"") ;;
--update) update=true ;;
*) sed -n '4,7s/^# *//p' tests/oracle/regenerate.sh >&2; exit 2 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

"$python" tests/oracle/tiny.py --out "$work"
"$python" tests/oracle/oracle.py "$work"/tiny-*
"$python" tests/oracle/drafters.py --out "$work"
"$python" tests/oracle/faults.py "$work"/tiny-* --json "$work/faults.json"
if [ -n "${HF_PYTHON:-}" ]; then
	"$HF_PYTHON" tests/oracle/hf_golden.py "$work/tiny-ragged" "$work/tiny-llama"
	"$HF_PYTHON" tests/oracle/hf_golden.py --check "$work/tiny-noq" "$work/tiny-qwen2" "$work/tiny-qwen3"
fi

if $update; then
	cp -R "$work"/. tests/data/
else
	"$python" tests/oracle/same.py tests/data "$work"
fi
