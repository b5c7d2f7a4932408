"""What is collected: the hub's own tests need the hub's libraries, which a node does not have."""

import importlib.util

HUB_ONLY = ["integration/store", "unit/store", "unit/hub/test_clerk.py"]

collect_ignore = [] if importlib.util.find_spec("sqlalchemy") else HUB_ONLY
