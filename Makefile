# make train    set up an environment with pinned versions, then train, draw the curve, evaluate and record a video
# make test     the same set-up, then the whole test suite
# make soak     training runs that are killed, stopped and broken: not in the tests
ENV = PongNoFrameskip-v4
STEPS = 240000
SEED = 1
# as many steps with random actions as in the preset's million, when there are 240,000
PARAMS = exploration_fraction:0.333
PYTHON ?= python3

BIN = .venv/bin
ENV_NAME = $(subst /,-,$(ENV))
LATEST_RUN = $$(ls -td logs/dqn_custom/$(ENV_NAME)_[0-9]* | head -n 1)

.PHONY: train test soak lint type docs format

train: .venv/ready
	$(BIN)/python -m rl_zoo3.train --algo dqn_custom --env $(ENV) --conf-file cpu --seed $(SEED) -n $(STEPS) \
		--eval-freq 100000 --n-eval-envs 5 --progress $(if $(PARAMS),-params $(PARAMS))
	-$(BIN)/python -m sb3_atari_dqn plot $(LATEST_RUN)  # says so where no game has ended yet
	$(BIN)/python -m sb3_atari_dqn evaluate $(LATEST_RUN) --episodes 10
	$(BIN)/python -m rl_zoo3.record_video --algo dqn_custom --env $(ENV) -f logs -n 1000
	@echo "Learning curve, and video of the trained agent:"
	-@ls $(LATEST_RUN)/scores.png
	@ls -t $(LATEST_RUN)/videos/*.mp4 | head -n 1

test: .venv/ready
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder  # files of few slow tests not last

soak: .venv/ready
	$(BIN)/python -m tests.soak

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: .venv/ready
	$(BIN)/mypy

docs: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[docs]'
	$(BIN)/sphinx-build -W -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/ready: pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))" || \
		{ echo "$$($(PYTHON) --version) will not do: Python 3.10 to 3.13 is needed, e.g. make PYTHON=python3.13"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --constraint .ci/constraints.txt --editable '.[dev]'
	touch $@
