"""Turn HTML, reStructuredText and POD files into plain text."""

import os
import re

from lxml import etree, html

# The main content of a page, most specific container first; everything around it is navigation.
_MAIN = [
    "//*[@role='main']", "//main", "//article", "//div[@id='apicontent']", "//div[@id='docs-body']",
    "//div[@id='docContent']", "//div[@class='body']", "//div[@id='page-content']", "//div[@id='content']", "//body",
]
_SKIP = {"script", "style", "nav", "head", "footer", "header", "form", "svg", "button", "noscript"}
_SKIP_CLASS = re.compile(r"headerlink|viewcode|navheader|navfooter|(?<![a-z])sidebar|toctree|breadcrumb|related|prev-next"
                         r"|menu|copybutton|src-link|srclink|linenos|spirit-nav|permalink")
_BREAK = {"p", "div", "ul", "ol", "dl", "table", "pre", "blockquote", "section", "h1", "h2", "h3", "h4", "h5", "h6"}
_LINE = {"br", "tr", "li", "dt", "dd"}
_SKIP_PATH = re.compile(r"/_modules/|/genindex|/bookindex|/py-modindex|/search\.html|/src/|/implementors/|/_static/"
                        r"|/rust-doc/html/(?:core|std|alloc|proc_macro|test)/"
                        r"|/print\.html|/all\.html|/sitemap|/epub|_source\.html|/changes/whatsnew_all|/toc\.html|/reindex")


def _walk(node, out, in_pre):
    tag = node.tag
    if not isinstance(tag, str) or tag in _SKIP or _SKIP_CLASS.search(node.get("class") or ""):
        return
    pre = in_pre or tag == "pre"
    if tag in _BREAK:
        out.append("\n\n")
    elif tag in _LINE:
        out.append("\n")
    if tag == "li":
        out.append("- ")
    elif tag in ("h1", "h2", "h3", "h4"):
        out.append("#" * int(tag[1]) + " ")
    elif tag in ("td", "th"):
        out.append("  ")
    if node.text:
        out.append(node.text if pre else re.sub(r"\s+", " ", node.text))
    for child in node:
        _walk(child, out, pre)
        if child.tail:
            out.append(child.tail if pre else re.sub(r"\s+", " ", child.tail))
    if tag in _BREAK:
        out.append("\n\n")


def html_text(data):
    try:
        tree = html.fromstring(data)
    except (etree.ParserError, ValueError):
        return ""
    for query in _MAIN:
        found = tree.xpath(query)
        if found:
            break
    else:
        return ""
    out = []
    _walk(found[0], out, False)
    return "".join(out)


def pod_text(text):
    text = re.sub(r"^=head(\d) ", lambda m: "#" * int(m.group(1)) + " ", text, flags=re.M)
    text = re.sub(r"^=item ", "- ", text, flags=re.M)
    text = re.sub(r"^=(?:pod|cut|over|back|encoding|for|begin|end)\b.*$", "", text, flags=re.M)
    for _ in range(2):  # formatting codes nest
        text = re.sub(r"[BICFLSX]<([^<>]*)>", r"\1", text)
    return text.replace("E<gt>", ">").replace("E<lt>", "<")


def clean(text):
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ").replace("\u00b6", "").replace("\u200b", "")
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n +- ", "\n- ", text)
    text = re.sub(r"\n- +\n+", "\n- ", text)
    text = re.sub(r"^\.\. _[^:\n]+:\n", "", text, flags=re.M)  # link targets of reStructuredText
    text = re.sub(r"\n{3,}", "\n\n", text)
    return text.strip() + "\n"


def read_document(path):
    """The cleaned text of one file, or None if there is too little of it or it is not English prose."""
    if _SKIP_PATH.search(path):
        return None
    with open(path, "rb") as f:
        data = f.read()
    if ".html" in os.path.basename(path):
        if len(data) > 3_000_000:  # all-in-one pages repeat the others
            return None
        text = html_text(data.decode("utf-8", "replace").encode("utf-8"))
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return None
        if path.endswith(".pod"):
            text = pod_text(text)
    text = clean(text)
    if len(text) < 400:
        return None
    plain = sum(c.isascii() for c in text)
    letters = sum(c.isalpha() or c.isspace() for c in text[:20000])
    if plain < 0.97 * len(text) or letters < 0.6 * min(len(text), 20000):
        return None  # other languages, number dumps
    return text
