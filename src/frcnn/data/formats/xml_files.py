"""Read XML files. (Helper, not a format.)"""

import re
from pathlib import Path
from xml.etree import ElementTree

from frcnn.data.formats.lines import error_at
from frcnn.data.problems import AnnotationError

_MAX_DEPTH = 60
_ENCODING = re.compile(rb"<\?xml[^>]*encoding\s*=\s*[\"']([\w.-]+)")
_BEFORE_ROOT = re.compile(r"\s*(?:<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>)", re.DOTALL)
_ROOT = re.compile(r"\s*<([\w:.-]+)")


def root_tag(start: bytes) -> str | None:
    """The name of the root element in lower case, by the first bytes of a file; None: it is not XML."""
    is_utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = start.decode("utf-16" if is_utf16 else "utf-8", "ignore")
    at = 0
    while before := _BEFORE_ROOT.match(text, at):  # one after the other: a search for one that never ends is quadratic
        at = before.end()
    root = _ROOT.match(text, at)
    return root[1].lower() if root else None


def has_tag(element: ElementTree.Element, name: str) -> bool:
    """Whether an element has this name, e.g. "object", also written <Object>; never of a comment."""
    return isinstance(element.tag, str) and element.tag.lower() == name


def find(element: ElementTree.Element, path: str) -> ElementTree.Element | None:
    """`ElementTree.Element.find` of a path of names in lower case, e.g. "size/width"; the file may write capitals."""
    for name in path.split("/"):
        child = next((each for each in element if has_tag(each, name)), None)
        if child is None:
            return None
        element = child
    return element


def text_of(element: ElementTree.Element, path: str) -> str:
    """The text at a path, see `find`; empty: there is none."""
    found = find(element, path)
    return "" if found is None else found.text or ""


def read_xml(file: Path, root_name: str) -> ElementTree.Element:
    """The root element of a file in any encoding that Python knows, with its comments.

    Args:
        root_name: the name that the root element must have, in lower case; the file may write capitals.

    Raises:
        FileNotFoundError, ValueError: the file is missing, not XML, or not of this kind.
    """
    content = file.read_bytes()
    name = _encoding(content)
    reason = "not an XML file that can be read"
    try:
        text = content.decode(name)
    except LookupError:
        raise AnnotationError(file, f"{reason} (its encoding {name} is not known)", "line 1") from None
    except UnicodeDecodeError as error:
        start = len(content[: error.start].decode(name, "replace"))
        reason = f"{reason} (it is not {name}: {error.reason})"
        raise error_at(file, reason, content.decode(name, "replace"), offset=start) from None
    entity = text.find("<!ENTITY")
    if entity >= 0:
        reason = "defines entities, which may expand without end; remove its <!DOCTYPE ...>"
        raise error_at(file, reason, text, offset=entity)
    try:
        root = ElementTree.XML(text, ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True)))
    except ElementTree.ParseError as error:
        what = str(error).partition(":")[0]
        raise error_at(file, f"{reason} ({what})", text, position=error.position) from None
    level, depth = [root], 0
    while level:
        level, depth = [child for element in level for child in element], depth + 1
        if depth > _MAX_DEPTH:
            raise AnnotationError(file, f"{reason} (it nests more than {_MAX_DEPTH} levels deep)")
    if not has_tag(root, root_name):
        raise AnnotationError(file, f"begins with <{root.tag}>, not with <{root_name}>", "line 1")
    return root


def _encoding(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    declared = _ENCODING.match(content)
    name = declared[1].decode("ascii", "replace") if declared else "utf-8"
    # What is read as bytes is not UTF-16, whatever it says: .NET writes such files.
    return "utf-8-sig" if name.lower().startswith(("utf-8", "utf8", "utf-16")) else name
