"""How large data are that have not been fetched, as the hub lists them. With pandas, and the client of the hub: a room of its own."""

import json

from essential_sparsity import errors
from essential_sparsity.acquire import formats, hub
from essential_sparsity.study import downloads
from essential_sparsity.study.study import Study


def of_hub(study: Study) -> dict[str, int | None]:
    """Bytes of the data sets that are not here, as the hub lists them; what cannot be asked is said."""
    found = {}
    for name in downloads.unknown(study):
        try:
            found[name] = formats.size(json.loads(study.source(study.datasets[name])))
        except errors.UserError as error:
            print(f"warning: the size of {name} is not known. {error}")
            if hub.unanswered(error):
                break
    return found
