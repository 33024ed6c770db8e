# `make help` lists everything. Each target sets up what it needs: a fresh clone plus one command is enough.

SHELL := /bin/bash
.DEFAULT_GOAL := help
# Of the versions that TensorFlow has wheels for, the first that is there.
FITTING := -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do $$python $(FITTING) && echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps
IN_ORDER := -n 2 --dist loadfile --no-loadscope-reorder
export DO_NOT_TRACK := 1
unexport PYTHONDONTWRITEBYTECODE  # else each process that the tests start compiles the project's modules again
export AIRFLOW_HOME ?= $(CURDIR)/.airflow
export AIRFLOW__CORE__DAGS_FOLDER ?= $(CURDIR)/deploy/airflow/dags
export AIRFLOW__CORE__LOAD_EXAMPLES ?= False
export AIRFLOW__API__HOST ?= 127.0.0.1
export DAGSTER_HOME ?= $(CURDIR)/.dagster

.PHONY: help transfer serve test test-integration test-nightly lint format viz airflow airflow-dag dagster bench notebooks data lock clean

help:  ## list the targets
	@grep -hE '^[a-z.-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z.-]+):.*## */\1\t/' | expand -t 18

.venv/.ready: requirements.lock pyproject.toml
# The lock is complete, so nothing is resolved (--no-deps): pip's resolver would look at newer releases for a
# requirement with extras (ray[data,train]) and refuse them for having no hash, whenever one is published.
	@$(or $(PYTHON),false) $(FITTING) || { echo "Python 3.11, 3.12 or 3.13 is needed, for which TensorFlow has wheels; choose one with make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is needed; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	$(PIP) -r .venv/uv.lock
# uv takes less than half of pip's time. Where only pip knows the way to a package index (pip.conf), or no folder of the
# user can be written, pip does it.
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --no-deps -r requirements.lock || $(PIP) -r requirements.lock
	$(BIN)/uv pip install --quiet --no-cache --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/uv pip check --quiet --no-cache --python $(BIN)/python
	@touch $@

# Orchestrators whose packages do not go together with the project's or Kedro's have environments of their own.
.venv-airflow/.ready .venv-dagster/.ready: .venv-%/.ready: deploy/%/requirements.lock .venv/.ready
	rm -rf .venv-$*
	$(BIN)/uv venv --quiet --python $(BIN)/python .venv-$*
	$(BIN)/uv pip install --quiet --python .venv-$*/bin/python --require-hashes --no-deps -r $<
	@sha256sum $< | head -c 64 > $@

transfer: .venv/.ready  ## run the main job: Fashion-MNIST → handwritten digits, 20 labels a class (2 to 4 minutes)
	$(BIN)/kedro run --pipelines transfer

serve: .venv/.ready  ## answer over HTTP with the newest release, http://localhost:8000 (needs kedro run and kedro run --pipelines export)
	$(BIN)/python -m cnn_transfer.serving

test: .venv/.ready  ## run the quick tests with coverage (5 to 10 minutes)
	$(BIN)/python -m slipcover --json --out .coverage.json -m pytest -n 2 --dist loadfile -m "not slow"
	$(BIN)/python -m slipcover --merge .coverage.json --out .coverage.json --fail-under 90

test-integration: .venv/.ready  ## run the slow tests: whole runs, browsers, Airflow, S3, several processes (10 to 20 minutes)
	$(BIN)/python -m pytest -m "slow and not nightly" $(IN_ORDER)

test-nightly: .venv/.ready  ## run the longest tests: overlapping runs of Airflow, Dagster, MLflow, Ray, the container, killed processes (12 to 25 minutes)
	$(BIN)/python -m pytest -m nightly $(IN_ORDER)

lint: .venv/.ready  ## check style, types and the three floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.ready  ## rewrite the code in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

viz: .venv/.ready  ## build the graph with previews as a static site in build/
	rm -rf build
	$(BIN)/kedro viz build --include-previews
	@echo "Look at it with: $(BIN)/python -m http.server --directory build"

airflow-dag: .venv/.ready  ## write the pipelines as Airflow DAGs to deploy/airflow/dags
	$(BIN)/kedro airflow create --pipelines transfer,transfer_pretrained,release,release_pretrained,predict,export --jinja-file deploy/airflow/dag.py.jinja --target-dir deploy/airflow/dags

airflow: .venv-airflow/.ready airflow-dag  ## run Airflow with these DAGs on this machine, http://localhost:8080
	PATH=$(CURDIR)/.venv-airflow/bin:$$PATH airflow standalone

dagster: .venv-dagster/.ready  ## run Dagster with the pipelines as jobs on this machine, http://localhost:3000
	mkdir -p $(DAGSTER_HOME)
	test -e $(DAGSTER_HOME)/dagster.yaml || cp deploy/dagster/dagster.yaml $(DAGSTER_HOME)
	PATH=$(CURDIR)/.venv-dagster/bin:$$PATH dagster dev --module-name definitions --working-directory deploy/dagster

bench: .venv/.ready  ## measure the default run, the article's script, what the source's augmentation brings, intake, feeding, augmentation, few labels, the ranking of sources, the labels saved, uneven classes, wrong labels, mirrored copies, backgrounds, labels that are asked for, damaged images, labels for new images, exports, releases, the service, kills, overlapping runs and several machines (several hours)
	$(BIN)/python benchmarks/default_run.py
	$(BIN)/python benchmarks/article.py
	$(BIN)/python benchmarks/own_source.py
	$(BIN)/python benchmarks/own_source.py --env article --labels 500 --seeds 3
	$(BIN)/python benchmarks/source_augmentation.py
	$(BIN)/python benchmarks/training_throughput.py
	$(BIN)/python benchmarks/commands.py
	$(BIN)/python benchmarks/intake.py
	$(BIN)/python benchmarks/fuzz_intake.py
	$(BIN)/python benchmarks/feeding.py
	$(BIN)/python benchmarks/augmentation.py
	$(BIN)/python benchmarks/augmentation.py --accuracy
	$(BIN)/python benchmarks/few_labels.py
	$(BIN)/python benchmarks/probe_speed.py
	$(BIN)/python benchmarks/probe_speed.py --many 12000
	$(BIN)/python benchmarks/large_images.py
	$(BIN)/python benchmarks/rank_sources.py
	$(BIN)/python benchmarks/intervals.py
	$(BIN)/python benchmarks/conformal_coverage.py
	$(BIN)/python benchmarks/left_out_promises.py
	$(BIN)/kedro run --pipelines transfer
	$(BIN)/python benchmarks/attribution.py .
	$(BIN)/python benchmarks/predict_rate.py
	$(BIN)/python benchmarks/drift.py
	$(BIN)/python benchmarks/damaged_images.py
	$(BIN)/python benchmarks/audit.py
	$(BIN)/python benchmarks/exports.py
	$(BIN)/python benchmarks/releases.py
	$(BIN)/kedro run --pipelines export
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/labels_saved.py
	$(BIN)/python benchmarks/uneven_classes.py
	$(BIN)/python benchmarks/wrong_labels.py
	$(BIN)/python benchmarks/mirrored_copies.py
	$(BIN)/python benchmarks/backgrounds.py
	$(BIN)/python benchmarks/backgrounds.py --shares 0 0.95 1 --fraction 0.5
	$(BIN)/python benchmarks/backgrounds.py --null 250
	$(BIN)/python benchmarks/label_next.py
	$(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/interleaved.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/workers.py

notebooks: .venv/.ready  ## execute the notebooks on a small run of their own
	$(BIN)/python -m pytest tests/end_to_end/test_notebooks.py

data: .venv/.ready  ## rebuild the bundled images byte for byte (needs npm and apt-get)
	$(BIN)/python data/01_raw/build.py

LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock"

lock: .venv/.ready  ## resolve requirements.lock anew, and those of the container, the MLflow server and the orchestrators
	$(LOCK) --upgrade --all-extras --group dev pyproject.toml -o requirements.lock
	$(LOCK) --extra heif --extra imagenet --extra s3 --extra mlflow --extra export --extra serve --constraint requirements.lock pyproject.toml -o deploy/container/requirements.lock
	$(LOCK) --upgrade deploy/mlflow/requirements.in -o deploy/mlflow/requirements.lock
	$(LOCK) --upgrade deploy/airflow/requirements.in -o deploy/airflow/requirements.lock
	cp requirements.lock deploy/dagster/requirements.lock  # its versions are kept where Dagster allows it
	$(LOCK) pyproject.toml deploy/dagster/requirements.in -o deploy/dagster/requirements.lock

clean:  ## delete what runs and checks made; the bundled data stays
	rm -rf build .viz .coverage.json .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .airflow .dagster .container deploy/airflow/dags data/0[2-8]_*
