"""JSON as the body of an answer."""

import json

from starlette.responses import JSONResponse


class AsciiJson(JSONResponse):
    """JSON in ASCII, because class and file names may contain invalid Unicode."""

    def render(self, content: object) -> bytes:
        return json.dumps(content).encode()
