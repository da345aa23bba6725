"""tables.py - aligned text: words to the left, figures to the right."""
import math
import textwrap

WIDTH = 120     # of the text below a table


def show(title, head, rows, note="", left=1):
    """rows: lists of strings, one a column; a string alone is a line between them.  left: columns of words,
    the first and, if 2, the last."""
    print(f"\n\n{title}\n")
    cells = [row for row in [head, *rows] if not isinstance(row, str)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in [head, *rows]:
        if not isinstance(row, str):
            words = [cell.ljust(width) if i == 0 or i >= len(head) + 1 - left else cell.rjust(width)
                     for i, (cell, width) in enumerate(zip(row, widths))]
            row = "  ".join(words).rstrip()
        print(row)
    if note:
        print("\n" + textwrap.fill(note, WIDTH))
    print(end="", flush=True)


def rate(bits):
    return f"{bits:g} bit" + ("s" if bits != 1 else "")


def short(name, most=60):
    """The end of a long name, which tells more."""
    return name if len(name) <= most else "..." + name[3 - most:]


def figure(value, digits):
    """A number with so many digits behind the point; "-" for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def speed(mvalues):
    """Mvalue/s with three digits that matter."""
    return "-" if mvalues is None else f"{mvalues:.0f}" if mvalues >= 100 else f"{mvalues:.3g}"
