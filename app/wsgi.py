"""Composition root of the web process: `granian --interface wsgi app.wsgi:app`."""

import os
import sys

from app.configuration import build
from config.problems import ConfigurationRefused

try:
    app = build(os.environ)
except ConfigurationRefused as refused:
    sys.exit(str(refused))
