# Every target runs as it is: nothing to activate, nothing to export. `make help` lists them.
SHELL := bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYSPARK_PYTHON := $(CURDIR)/.venv/bin/python
unexport SPARK_HOME
DAY := 2026-03-10
FUZZ_SECONDS := 60
FUZZ_SEED := 1
# A file of tests at a time to each of two processes, which have a session each.
IN_TWO := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup setup-s3 demo demo-s3 test test-slow soak fuzz test-sail check bench docs notebooks zip audit sbom lock clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12
setup: ## build .venv with all that the other targets need, and resolve Delta's JARs
	@.ci/setup
setup-s3: setup ## add the JARs with which Spark itself reads tables on S3 (S3A)
	@python .ci/resolve_jars.py s3
demo: setup ## make a day of sample logs and smaller days before it, run them whole; ends with the report's path
	@flowlog demo --output demo --day $(DAY)
demo-s3: setup-s3 ## the same against a real S3 API on this machine
	@.ci/demo_s3 $(DAY)
test: setup ## the test suite, as two processes
	@pytest $(IN_TWO)
test-slow: setup-s3 zip ## the long tests: faults, clusters, many objects, S3A; as two processes
	@pytest -m slow $(IN_TWO)
soak: setup-s3 ## the long form of all that docs/reliability.md promises, as two processes; prints its figures
	@pytest -m "slow or not slow" --soak $(IN_TWO) tests/faults tests/fuzzing \
	  tests/spark/test_secrets.py tests/spark/test_iam_policies.py tests/spark/test_operations.py tests/unit/test_maintenance.py tests/unit/test_evidence.py
	@$(MAKE) fuzz FUZZ_SECONDS=600
fuzz: setup ## the parser against the reference, led by which branches an input takes (FUZZ_SECONDS=60); says so where atheris has no wheel
	@place=$$(.ci/fuzzer) || { echo "NOT FUZZED: atheris cannot be had for this Python"; exit 0; }; \
	  PYTHONPATH="$$place" python tests/fuzzing/guided.py -seed=$(FUZZ_SEED) -max_total_time=$(FUZZ_SECONDS) -max_len=3000
test-sail: setup ## the Spark tests on Sail, without a JVM; says so where Sail cannot be had
	@python=$$(.ci/sail) || { echo "NOT TRIED ON SAIL: its packages cannot be had"; exit 0; }; \
	  $$python -m pytest --engine sail $(IN_TWO) tests/spark
check: setup ## formatting, lint, types
	@ruff format --check . && ruff check . && mypy
bench: setup ## throughput and memory, alone and beside other engines (BENCH="--records 1 3 10 ..."); accuracy against the samples' truth; a large report in a browser; a day of 30 million records
	@python -m tests.benchmarks.compare $(BENCH) && python -m tests.benchmarks && python -m tests.benchmarks.accuracy && python -m tests.benchmarks.opening && python -m tests.benchmarks.scale
docs: setup ## renew the generated parts of docs/
	@python .ci/make_docs.py
notebooks: setup ## execute the notebooks on the demo
	@[ -d demo/warehouse ] || $(MAKE) demo
	@pytest --nbmake notebooks
zip: setup ## the library as dist/flowlog_udfs.zip for spark-submit --py-files
	@python .ci/make_zip.py
audit: setup ## ask which pinned packages have known vulnerabilities; says so when no advisory service answers
	@.ci/audit
sbom: setup ## the pinned packages and JARs as dist/flowlog.cdx.json (CycloneDX)
	@$$(.ci/audit_tools) .ci/make_sbom.py
lock: setup ## renew constraints.txt and the locks of .ci from pyproject.toml
	@.ci/lock
clean: ## remove what the targets made, .venv excepted
	@rm -rf demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse
