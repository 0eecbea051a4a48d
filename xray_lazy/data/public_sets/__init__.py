"""Public X-ray sets: what each is declared by, its reader, and how it becomes sets of this project.

`import_set` does the work; `PUBLIC_SETS` has the declarations.
"""

from xray_lazy.data.public_sets.importing import Imported, import_set
from xray_lazy.data.public_sets.registry import PUBLIC_SETS

__all__ = ["PUBLIC_SETS", "Imported", "import_set"]
