# Everything is installed into .venv at the root. Outside the checkout there are
# only caches, and ~/.local/share/uv where uv has to fetch Python 3.10.
PYTHON := .venv/bin/python
STAMP := .venv/.installed

.PHONY: setup run test test-slow lint bench clean

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml setup.sh
	bash setup.sh
	touch $(STAMP)

# Accepts open ports, with a warning, where the system permits no network
# namespace to close them.
PORTS = $$($(PYTHON) -c 'from launch import network; \
	print("" if network.isolate() else "--allow_remote")')

# The main job, a few minutes on two CPU cores, then its figures.
run: setup
	$(PYTHON) launch/lp_run.py --env point_FourRooms --region_bounds=0,5:5,11 $(PORTS)
	$(PYTHON) launch/report.py logs/contrastive_cpc_point_FourRooms_42

# Two at a time: many tests wait for processes they have started.
test: setup
	$(PYTHON) -m pytest -n 2 --dist loadfile

# Long runs that are killed and resumed, clusters, other machines' networks.
test-slow: setup
	$(PYTHON) -m pytest -m slow --timeout=900

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

bench: setup
	$(PYTHON) benchmarks/acting.py
	$(PYTHON) benchmarks/learning.py
	$(PYTHON) benchmarks/end_to_end.py

# Runs and their region visits stay.
clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
