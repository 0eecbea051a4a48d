"""The scripts beside the site's config are on the path as they are for MkDocs."""

import sys
from pathlib import Path

SITE = Path(__file__).parents[2] / "docs" / "site"
sys.path.insert(0, str(SITE))
