#!/usr/bin/env python3
"""The shape of the code in figures: `make figures`, or figures.py CHECKOUT for another one.

Counts src/ without tests: no file or module that is for tests, nothing under #[cfg(test)]. A function is as long as the lines from its
signature to its brace. A type is shared if another file has one of its name. A circle is a group of files of which each needs every
other, by what they import; that a module passes on names of its own files with `pub use` is no need. The trust core is what decides
that a signature holds and that a policy is satisfied: the folders of KERNEL. What only reads, matches or explains is beside them
(docs/reading-the-trust-core.md).
"""

import collections
import os
import re
import statistics
import sys

KERNEL = ["core/verify", "core/policy"]
MOST_LINES, MOST_FUNCTION_LINES = 400, 60

VISIBILITY = r"(?:pub(?:\([a-z: ]+\))?\s+)?"
TYPE = re.compile(rf"^\s*{VISIBILITY}(?:struct|enum|trait|type|union)\s+([A-Z]\w*)", re.M)
FUNCTION = re.compile(rf"^[ \t]*{VISIBILITY}(?:const |async |unsafe )*fn\s+(\w+)", re.M)
ITEM = re.compile(rf"^\s*(?:{VISIBILITY}(?:const |async |unsafe )*(?:struct|enum|trait|type|union|fn|const|static)\s+|macro_rules!\s*)(\w+)", re.M)
USE = re.compile(rf"^\s*({VISIBILITY})use\s+([^;]+);", re.M)
PATH = re.compile(r"\b(?:crate|super|self)(?:::\w+)+")


def blank(code, keep_comments):
    """The code with strings, and comments unless they are kept, as spaces of the same length."""
    token = re.compile(r"""//[^\n]*|/\*.*?\*/|b?r(\#*)".*?"\1|b?"(?:[^"\\]|\\.)*"|'(?:\\.[^']*|[^\\'])'""", re.S)

    def space(found):
        if keep_comments and found[0].startswith("//"):
            return found[0]
        return re.sub(r"[^\n]", " ", found[0])

    return token.sub(space, code)


def closing(code, start):
    """Where the brace that opens at `start`, or behind it, closes."""
    depth = 0
    for at in range(code.index("{", start), len(code)):
        depth += {"{": 1, "}": -1}.get(code[at], 0)
        if depth == 0:
            return at
    return len(code)


def without_tests(code):
    """Takes out what is under #[cfg(test)]."""
    plain = blank(code, False)
    for found in reversed(list(re.finditer(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*", plain))):
        semicolon, brace = plain.find(";", found.end()), plain.find("{", found.end())
        ends = semicolon if brace < 0 or 0 <= semicolon < brace else closing(plain, found.end())
        code, plain = code[:found.start()] + code[ends + 1:], plain[:found.start()] + plain[ends + 1:]
    return code


class File:
    def __init__(self, root, path):
        self.place = path[len("src/"):-len(".rs")]
        self.module = tuple(part for part in self.place.split("/") if part not in ("mod", "lib"))
        with open(os.path.join(root, path), encoding="utf-8") as source:
            self.code = without_tests(source.read())
        self.plain = blank(self.code, False)
        self.items = set(ITEM.findall(self.plain))
        self.exports, self.imports, self.globs = {}, [], []
        for visibility, tree in USE.findall(self.plain):
            for names, alias in flatten(tree):
                absolute = self.absolute(names)
                if visibility and names[-1] != "*":
                    self.exports[alias] = absolute
                elif visibility:
                    self.globs.append(absolute[:-1])
                else:
                    self.imports.append(absolute)
        body = USE.sub("", self.plain)
        self.imports += [self.absolute(tuple(path.split("::"))) for path in PATH.findall(body)]

    def absolute(self, names):
        base, names = self.module, list(names)
        if names[0] == "crate":
            return tuple(names[1:])
        if names[0] not in ("super", "self"):
            return (*self.module, *names)
        while names and names[0] in ("super", "self"):
            base = base[:-1] if names.pop(0) == "super" else base
        return (*base, *names)

    def lines(self):
        return self.code.count("\n")

    def functions(self):
        for found in FUNCTION.finditer(self.plain):
            semicolon, brace = self.plain.find(";", found.end()), self.plain.find("{", found.end())
            has_body = brace >= 0 and not 0 <= semicolon < brace
            end = closing(self.plain, found.end()) if has_body else semicolon
            yield found[1], self.plain.count("\n", found.start(), end) + 1 if has_body else None


def flatten(tree):
    """Each path of a `use` tree, with the name that it is known by."""
    head, _, rest = tree.partition("{")
    if not rest:
        path, _, alias = tree.strip().partition(" as ")
        names = tuple(name for name in path.strip().split("::") if name)
        if names and names[-1] == "self":
            names = names[:-1]
        return [(names, alias.strip() or names[-1])] if names else []
    inner, depth, parts = rest.rsplit("}", 1)[0], 0, [""]
    for c in inner:
        depth += {"{": 1, "}": -1}.get(c, 0)
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [path for part in parts if part.strip() for path in flatten(head.strip() + part.strip())]


def read(root):
    files = []
    for folder, _, names in os.walk(os.path.join(root, "src")):
        relative = os.path.relpath(folder, root)
        for name in sorted(names):
            path = os.path.join(relative, name)
            if name.endswith(".rs") and not re.search(r"(^|/)(tests?|testing)(/|\.rs$)|_tests?\.rs$|/testing_|/golden_tests|/golden\.rs$", path):
                files.append(File(root, path))
    return files


def needs(files):
    """Which file needs which: file to set of files."""
    modules = {file.module: file for file in files}

    def definer(path, seen):
        """The file that defines what the path names, through modules that pass it on."""
        for length in range(len(path), -1, -1):
            file = modules.get(path[:length])
            if file is None:
                continue
            rest = path[length:]
            if not rest or rest[0] in file.items or (file.module, rest[0]) in seen:
                return file
            seen = seen | {(file.module, rest[0])}
            if rest[0] in file.exports:
                return definer((*file.exports[rest[0]], *rest[1:]), seen)
            for glob in file.globs:
                found = definer((*glob, *rest), seen)
                if found is not None and rest[0] in found.items:
                    return found
            return file
        return None

    graph = {}
    for file in files:
        found = (definer(path, frozenset()) for path in file.imports)
        graph[file] = {other for other in found if other is not None and other is not file and other.module}
    return graph


def circles(graph):
    """Groups of files that need each other: strongly connected ones of more than one file (Tarjan)."""
    index, low, stack, groups = {}, {}, [], []
    sys.setrecursionlimit(10_000)

    def visit(file):
        index[file] = low[file] = len(index)
        stack.append(file)
        for other in graph[file]:
            if other not in index:
                visit(other)
            if other in stack:
                low[file] = min(low[file], low[other])
        if low[file] == index[file]:
            group = []
            while not group or group[-1] is not file:
                group.append(stack.pop())
            if len(group) > 1:
                groups.append(sorted(file.place for file in group))

    for file in graph:
        if file not in index:
            visit(file)
    return groups


def figures(root):
    files = read(root)
    functions = [(name, length, file) for file in files for name, length in file.functions()]
    lengths = sorted(length for _, length, _ in functions if length)
    types = [(name, file) for file in files for name in TYPE.findall(file.plain)]
    holders = collections.defaultdict(set)
    for name, file in types:
        holders[name].add(file)
    shared = sum(len(holders[name]) > 1 for name, _ in types)
    one_word = sum("_" not in name for name, _, _ in functions)
    code = sum(bool(line.strip()) for file in files for line in file.plain.split("\n"))
    docs = sum(bool(re.match(r"\s*//[/!]", line)) for file in files for line in file.code.split("\n"))
    sizes = sorted(file.lines() for file in files)
    kernel = sum(file.lines() for file in files if any(file.place == place or file.place.startswith(place + "/") for place in KERNEL))
    longest = max((length, name, file.place) for name, length, file in functions if length)
    groups = circles(needs(files))
    rows = [
        ("files", len(files)),
        ("lines", f"{sum(sizes):,}"),
        ("lines of code", f"{code:,}"),
        ("doc lines to code", f"{100 * docs / code:.0f} %"),
        ("lines of a file: median, p90, max", f"{statistics.median(sizes):.0f} / {sizes[len(sizes) * 9 // 10]} / {sizes[-1]}"),
        (f"files over {MOST_LINES} lines", sum(size > MOST_LINES for size in sizes)),
        ("functions", len(functions)),
        ("lines of a function: median, p90, max", f"{statistics.median(lengths):.0f} / {lengths[len(lengths) * 9 // 10]} / {longest[0]} ({longest[2]}: {longest[1]})"),
        (f"functions over {MOST_FUNCTION_LINES} lines", sum(length > MOST_FUNCTION_LINES for length in lengths)),
        ("types", len(types)),
        ("types that share a name with another file", f"{100 * shared / len(types):.1f} %"),
        ("function names of one word", f"{100 * one_word / len(functions):.1f} %"),
        ("circles, and files in them", f"{len(groups)}, {sum(map(len, groups))}"),
        ("lines of the trust core", f"{kernel:,}"),
    ]
    return rows, groups, files


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    rows, groups, files = figures(root)
    for name, value in rows:
        print(f"{name:<44} {value}")
    if "--list" in sys.argv:
        for group in groups:
            print("circle:", *group)
        for file in files:
            if file.lines() > MOST_LINES:
                print(f"{file.lines()} lines: {file.place}")
            for name, length in file.functions():
                if length and length > MOST_FUNCTION_LINES:
                    print(f"{length} lines: {file.place}: {name}")


main()
