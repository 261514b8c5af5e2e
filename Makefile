# `make demo` and `make test` start from nothing: they make .venv, install, run.
.DEFAULT_GOAL := help
.PHONY: help venv demo lint test test-ci clean

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
	.venv/bin/pytest -m "not ci"

test-ci: venv ## the long tests that belong to every change
	.venv/bin/pytest -m ci

clean: ## remove what was made here, the embedded server's cached environment left alone
	rm -rf .venv data scored bench.json .mypy_cache .ruff_cache .pytest_cache .hypothesis
