# `make demo` and `make test` start from nothing: they make .venv, install, run.
.DEFAULT_GOAL := help
.PHONY: help venv demo lint test test-ci test-crash-full test-faults-full soak test-hostile-full test-mlserver test-export-full test-deploy bench-venv bench-peers bench-peers-quick clean

help: ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: ## make or update .venv
	@requirements/install.sh

demo: venv ## export a model, start a real Triton, score 336,776 flights, sweep
	@.venv/bin/python examples/flights/demo.py

lint: venv ## style, types, import rules
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

test: lint ## all but the long tests, with the real embedded Triton (under 10 minutes)
	.venv/bin/pytest -m "not ci" -n 2 --dist loadfile

test-ci: venv ## the long tests that belong to every change
	@requirements/system.sh
	.venv/bin/pytest -m ci

test-crash-full: venv ## kills, faults and crashes in full numbers (about 90 minutes)
	@requirements/system.sh
	TRITONBULK_TEST_FULL=1 TRITONBULK_TEST_SEEDS=200000 TRITONBULK_TEST_FILE_MB=2100 \
	  .venv/bin/pytest -m 'ci or not ci' tests/crash tests/unit/test_job_simulation.py \
	  tests/unit/test_job_model_check.py tests/unit/test_memory.py --timeout 10800 -o faulthandler_timeout=10800

test-export-full: venv ## export's hostile files, kills and lint's cross-check, in full numbers
	@requirements/system.sh
	TRITONBULK_TEST_FULL=1 .venv/bin/pytest -m 'ci or not ci' tests/export_corpus tests/property/test_export_hostile.py \
	  tests/crash/test_publish_kills.py tests/crash/test_export_hostile.py \
	  tests/live/test_lint_cross_check.py --timeout 3600 -o faulthandler_timeout=3600

test-hostile-full: venv ## hostile files and parsers in full numbers, an hour of fuzzing
	@.venv/bin/python -c 'import atheris' 2>/dev/null || .venv/bin/python -m pip install --quiet \
	  --disable-pip-version-check --require-hashes --no-deps --requirement requirements/fuzz.txt
	TRITONBULK_TEST_FULL=1 .venv/bin/pytest -m 'ci or not ci' tests/hostile --timeout 10800 -o faulthandler_timeout=10800

# Its packages (500 MB) fit no list of ours, so they get an environment of their own.
MLSERVER = $(or $(TRITONBULK_CACHE),$(HOME)/.cache/tritonbulk)/mlserver-1.7.1
test-mlserver: venv ## score through a real MLServer, in an environment of its own
	@test -x $(MLSERVER)/bin/mlserver || { .venv/bin/python -m venv $(MLSERVER) && $(MLSERVER)/bin/pip \
	  install --quiet --disable-pip-version-check mlserver==1.7.1 mlserver-sklearn==1.7.1; }
	.venv/bin/pytest -m 'ci or not ci' tests/live/test_mlserver.py

.PHONY: frameworks-venv test-export-frameworks examples-export

frameworks-venv: ## make the environment of all frameworks (3 GB)
	@requirements/frameworks.sh

test-export-frameworks: frameworks-venv ## exports of PyTorch, Keras, JAX, transformers, CatBoost (3 GB)
	.venv-export/bin/python -m pytest tests/frameworks tests/unit/test_export_xgboost.py

examples-export: frameworks-venv ## export and serve every framework's example, print one table
	@.venv-export/bin/python -m examples.frameworks.table

test-deploy: venv ## containers, manifests, alerts and dashboard judged by the tools of the field
	@requirements/deploy.sh
	TRITONBULK_DEPLOY_TOOLS=$(CURDIR)/.venv-deploy/bin .venv/bin/pytest -m 'ci or not ci' tests/deploy

.PHONY: engines-venv test-engines

engines-venv:
	@requirements/engines.sh

test-engines: engines-venv ## score in Ray, Spark and Daft, workers killed (2 GB, 5 minutes)
	.venv-engines/bin/python -m pytest -m 'ci or not ci' tests/engines

.PHONY: sinks-venv test-sinks test-orchestrators test-extras

test-extras: venv ## every extra by itself in a new environment; EXTRAS="s3 delta" for some
	@.venv/bin/python requirements/extras.py $(EXTRAS)

sinks-venv:
	@requirements/sinks.sh
	@requirements/system.sh

test-sinks: sinks-venv ## publish to PostgreSQL, DuckDB, Delta Lake, Iceberg and Lance, killed and at once (1 GB)
	.venv-sinks/bin/python -m pytest -m 'ci or not ci' tests/sinks

test-orchestrators: venv ## jobs run by Airflow, Dagster, Prefect, Kubeflow, Metaflow, in environments of their own (3 GB)
	@requirements/orchestrators.sh
	.venv/bin/pytest -m 'ci or not ci' tests/orchestrators

test-faults-full: venv ## poison, outages and wrong answers in full numbers (about 1 hour)
	TRITONBULK_TEST_FULL=1 .venv/bin/pytest -m 'ci or not ci' tests/faults tests/property/test_dispatch.py \
	  tests/property/test_window.py tests/unit/test_policy.py --timeout 7200 -o faulthandler_timeout=7200

soak: venv ## ten minutes of kills, poison rows and three endpoints; every row accounted for
	.venv/bin/python -m tests.faults.soak

bench-venv: venv
	@.venv/bin/python -c 'import pandas' 2>/dev/null || .venv/bin/python -m pip install --quiet \
	  --disable-pip-version-check --require-hashes --no-deps --requirement requirements/bench.txt

.PHONY: bench-shards
bench-shards: venv ## 8 shards of a job on 4 simulated accelerators, against the ideal (5 minutes)
	@.venv/bin/python -m benchmarks.shards

bench-peers: bench-venv ## tritonbulk beside what people use instead, everything
	@.venv/bin/python -m benchmarks.peers

bench-peers-quick: bench-venv ## the same, a subset in under 5 minutes
	@.venv/bin/python -m benchmarks.peers --quick

.PHONY: bench-sinks
bench-sinks: sinks-venv ## rows a second into PostgreSQL, Delta Lake and others: make bench-sinks OUT=out/served
	@.venv-sinks/bin/python -m benchmarks.sinks $(OUT)

clean: ## remove what was made here, the embedded server's cached environment left alone
	rm -rf .venv .venv-export .venv-deploy .venv-engines .venv-orchestrators .venv-sinks data scored bench.html bench.json bench.trials.jsonl bench-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis
