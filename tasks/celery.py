"""Composition root of the worker: `celery -A tasks worker`."""

import os
import sys

from config.problems import ConfigurationRefused
from tasks.worker import build

try:
    app = build(os.environ)
except ConfigurationRefused as refused:
    sys.exit(str(refused))
