"""The objects in the refrigerator, one function each: sixteen kinds of groceries, and clutter."""

import math
from collections.abc import Callable
from typing import NamedTuple

from frcnn.tools.toy.pen import Pen, Point, Rng

# ------------------------------------------------------------------------------------ the groceries


def draw_avocado(pen: Pen, rng: Rng) -> None:
    """A whole avocado, or more often a half with its stone."""

    def pear(scale: float) -> list[Point]:
        half = ((0.15, 0.01), (0.25, 0.13), (0.3, 0.3), (0.44, 0.52), (0.48, 0.72), (0.34, 0.92), (0.1, 0.99))
        return [(dx * scale, 0.55 + (y - 0.55) * scale) for dx, y in half]

    pen.fruit(pear(1), "#34481f")
    if rng.random() < 0.35:
        pen.specks(rng, 70, "#566b2e", 0.04)
        pen.shade_ball(0.7)
        pen.oval((0.44, 0.0, 0.56, 0.05), "#6b4a26")
        pen.shine((0.25, 0.42, 0.42, 0.62), 90)
        return
    pen.fruit(pear(0.91), "#8fae3c")
    pen.fruit(pear(0.8), "#c4d272", soft=0.02)
    pen.fruit(pear(0.6), "#e6e49b", soft=0.05)
    pen.oval((0.25, 0.43, 0.75, 0.83), "#5a3415")
    pen.oval((0.28, 0.445, 0.72, 0.8), "#8a5626", soft=0.04)
    pen.shine((0.36, 0.5, 0.48, 0.59), 170)


def draw_orange(pen: Pen, rng: Rng) -> None:
    """An orange with pores, often with a leaf."""
    pen.oval((0.01, 0.05, 0.99, 1), rng.choice(("#f58a12", "#f79a1e", "#ee7c0c")))
    pen.specks(rng, 90, "#d96f06", 0.025)
    pen.specks(rng, 50, "#ffb54a", 0.02)
    pen.shade_ball(0.5)
    pen.oval((0.44, 0.1, 0.56, 0.16), "#5c7a2a")
    if rng.random() < 0.6:
        pen.spline([(0.5, 0.13), (0.62, 0.02), (0.82, 0.01), (0.93, 0.06), (0.75, 0.16)], "#3f7d2c")
        pen.lines([[(0.52, 0.12), (0.88, 0.06)]], "#79ad55")
    pen.shine((0.22, 0.24, 0.42, 0.4))


def draw_butter(pen: Pen, rng: Rng) -> None:
    """A wrapped brick of butter, seen a little from above and from the side."""
    paper, band = rng.choice((("#f6e7a6", "#2f6db3"), ("#f3d977", "#b3342f"), ("#e9e6dc", "#d9a520")))
    pen.face([(0, 0.3), (0.14, 0), (0.99, 0), (0.85, 0.3)], paper, "#ffffff66")
    pen.polygon([(0, 0.3), (0.85, 0.3), (0.85, 1), (0, 1)], paper)
    pen.face([(0.85, 0.3), (0.99, 0), (0.99, 0.7), (0.85, 1)], paper, "#00000038")
    pen.polygon([(0.85, 0.3), (0.99, 0), (0.92, 0.52)], "#00000020")  # a fold of the wrapper
    pen.lines([[(0.85, 1), (0.92, 0.52), (0.99, 0.7)]], "#00000050", 0.01)
    pen.bar((0, 0.44, 0.85, 0.84), band)
    pen.face([(0.85, 0.44), (0.99, 0.14), (0.99, 0.54), (0.85, 0.84)], band, "#00000048")
    pen.text("BUTTER", (0.06, 0.48, 0.79, 0.8), "#fff6d0")
    pen.lines([[(x, 0.3), (x + rng.uniform(-0.04, 0.04), 1)] for x in (0.1, 0.31, 0.72)], "#ffffff40", 0.008)


def draw_champagne(pen: Pen, rng: Rng) -> None:
    """A dark green bottle with a golden foil and a cream label."""
    pen.turned([(0.06, 0.15), (0.26, 0.16), (0.5, 0.49), (0.99, 0.49), (1, 0.45)], "#1f3a22")
    pen.bar((0.31, 0.0, 0.69, 0.1), "#d9ae45", radius=0.14)
    foil = [(0.5 + dx, y) for dx, y in ((0.17, 0.07), (0.18, 0.26), (0.31, 0.37), (0.15, 0.34), (0.0, 0.39))]
    pen.polygon(foil + [(1 - x, y) for x, y in reversed(foil)], "#d9ae45", inside=True)
    pen.specks(rng, 25, "#f7e29a66", 0.09, soft=0.02)
    pen.lines([[(0.3, 0.1), (0.7, 0.1)], [(0.33, 0.13), (0.67, 0.13)]], "#8f6c1c", 0.03, inside=True)
    pen.bar((0, 0.58, 1, 0.86), "#f3ead0", inside=True)
    for y in (0.595, 0.845):
        pen.lines([[(0, y), (1, y)]], "#c29a3a", 0.04, inside=True)
    pen.oval((0.32, 0.62, 0.68, 0.71), rng.choice(("#8c1d2c", "#1f3a22", "#c29a3a")))
    pen.text("BRUT", (0.2, 0.73, 0.8, 0.82), "#3a2f1c")
    pen.shade_round(0.65)
    pen.bar((0.17, 0.46, 0.23, 0.96), "#ffffff50", radius=0.05, soft=0.03, inside=True)


def draw_egg_box(pen: Pen, rng: Rng) -> None:
    """A pulp carton: open with its eggs showing, or closed."""
    pulp = rng.choice(("#a8a49a", "#8fa38f", "#9aa6b4", "#b59f84"))
    cups = 5
    centers = [(i + 0.5) / cups for i in range(cups)]
    if rng.random() < 0.65:
        pen.polygon([(0.03, 0.62), (0.06, 0.02), (0.94, 0.02), (0.97, 0.62)], pulp)
        pen.polygon([(0.07, 0.62), (0.1, 0.08), (0.9, 0.08), (0.93, 0.62)], "#00000038", soft=0.01)
        for x in centers:
            pen.oval((x - 0.085, 0.26, x + 0.085, 0.9), rng.choice(("#f6ead8", "#e9c7a0", "#d9a877")))
            pen.oval((x - 0.05, 0.32, x + 0.01, 0.48), "#ffffff80", soft=0.015)
    else:
        pen.polygon([(0.0, 0.58), (0.04, 0.14), (0.96, 0.14), (1, 0.58)], pulp)
        pen.ovals([(x - 0.09, 0.02, x + 0.09, 0.5) for x in centers], pulp)
        pen.ovals([(x - 0.05, 0.06, x + 0.02, 0.2) for x in centers], "#ffffff50", soft=0.015)
        pen.bar((0.2, 0.24, 0.8, 0.53), rng.choice(("#f4d35e", "#f7f4ea", "#7fb069")), radius=0.01)
        pen.text("10 EGGS", (0.24, 0.27, 0.76, 0.5), "#5a3a1c")
    scallops = [(i / 40, 0.93 + 0.06 * abs(math.sin(math.pi * cups * i / 40))) for i in range(41)]
    pen.polygon([(0, 0.58), *((0.03 + 0.94 * x, y) for x, y in scallops), (1, 0.58)], pulp)
    pen.ovals([(x - 0.06, 0.64, x + 0.05, 0.98) for x in centers], "#ffffff38", soft=0.02, inside=True)
    seams = [[(x, 0.66), (x, 1)] for x in (0.2, 0.4, 0.6, 0.8)]
    pen.lines(seams, "#00000060", 0.012, soft=0.006, inside=True)
    pen.bar((0, 0.57, 1, 0.64), "#ffffff40", inside=True)
    pen.lines([[(0, 0.645), (1, 0.645)]], "#00000058", 0.006, inside=True)
    pen.specks(rng, 120, "#00000020", 0.012)


def draw_gerkin(pen: Pen, rng: Rng) -> None:
    """A glass jar packed with gherkins, under a metal lid."""
    pen.turned([(0.1, 0.36), (0.2, 0.49), (0.96, 0.49), (1, 0.42)], "#b9c46af0")
    outline = [(-0.02, -0.14), (0.06, -0.12), (0.1, 0), (0.06, 0.13), (-0.04, 0.14), (-0.1, 0)]
    for row, y in enumerate((0.86, 0.58, 0.32)):
        for column in range(5):
            x, lean = 0.14 + 0.18 * column + 0.06 * (row % 2), rng.uniform(-0.3, 0.3)
            green = rng.choice(("#5b7d23", "#6d8f2c", "#4a6b1d", "#7f9c3a"))
            pen.spline([(x + dx - lean * dy, y + dy) for dx, dy in outline], green, inside=True)
            ridge = [(x - 0.03 - lean * dy, y + dy) for dy in (-0.08, 0.06)]
            pen.lines([ridge], "#c8d68a90", 0.03, inside=True)
    pen.specks(rng, 60, "#3d5a1890", 0.025)
    if rng.random() < 0.5:
        pen.bar((0, 0.48, 1, 0.76), rng.choice(("#f6f1d8", "#e8efd0")), inside=True)
        pen.text("GHERKINS", (0.08, 0.53, 0.92, 0.71), "#2f5a1c")
    pen.shade_round(0.4)
    pen.bar((0.1, 0.2, 0.17, 0.92), "#ffffff90", radius=0.04, soft=0.025, inside=True)
    with pen.turned_part() as lid:
        lid.bar((0.06, 0, 0.94, 0.13), rng.choice(("#d8b64a", "#3f7f3a", "#c9ccd0")), radius=0.05)
        lid.lines([[(x / 14, 0.03), (x / 14, 0.12)] for x in range(1, 14)], "#00000030", 0.015, inside=True)


def draw_joghurt(pen: Pen, rng: Rng) -> None:
    """A tapered plastic pot under a foil lid with a tab."""
    fruit, leaf = rng.choice((("#d8203e", "#3f8f3a"), ("#4a4fa8", "#3f8f3a"), ("#f0902a", "#4f9a3a")))
    pen.polygon([(0.05, 0.1), (0.95, 0.1), (0.84, 0.97), (0.8, 1), (0.2, 1), (0.16, 0.97)], "#f7f5f0")
    pen.bar((0, 0.74, 1, 0.9), fruit, inside=True)
    for x, y in ((0.36, 0.5), (0.62, 0.47), (0.5, 0.59)):
        pen.oval((x - 0.11, y - 0.09, x + 0.11, y + 0.11), fruit, inside=True)
        pen.oval((x - 0.06, y - 0.11, x + 0.07, y - 0.06), leaf, inside=True)
        pen.oval((x - 0.06, y - 0.03, x - 0.02, y + 0.02), "#ffffff90")
    pen.text("YOGURT", (0.18, 0.2, 0.82, 0.36), fruit)
    pen.shade_round(0.38)
    pen.bar((0, 0.03, 1, 0.1), "#dfe3e8", radius=0.03)
    pen.oval((0.01, 0, 0.99, 0.1), "#c3c9d1")
    pen.lines([[(rng.random(), 0.02), (rng.random(), 0.08)] for _ in range(6)], "#ffffff90", 0.02, inside=True)
    pen.polygon([(0.84, 0.07), (1, 0.05), (0.98, 0.2), (0.88, 0.18)], "#b4bbc4")  # the tab
    pen.lines([[(0.02, 0.105), (0.98, 0.105)]], "#00000040", 0.02, inside=True)


def draw_ketchup(pen: Pen, rng: Rng) -> None:
    """A red squeeze bottle with a white cap."""
    body = [(0.15, 0.26), (0.19, 0.3), (0.34, 0.49), (0.6, 0.42), (0.85, 0.49), (0.98, 0.49), (1, 0.44)]
    pen.turned(body, "#c4161c")
    pen.turned([(0.4, 0.36), (0.46, 0.4), (0.84, 0.4), (0.88, 0.36)], "#f8f4ea", inside=True)
    if rng.random() < 0.7:
        pen.text("KETCHUP", (0.3, 0.44, 0.62, 0.85), "#b01218", turn=90)
    else:
        pen.oval((0.22, 0.52, 0.78, 0.74), "#d8271f")
        pen.ovals([(0.4, 0.5, 0.6, 0.54), (0.47, 0.47, 0.53, 0.55)], "#3b8a35")
    pen.shade_round(0.5)
    with pen.turned_part() as cap:
        cap.turned([(0, 0.12), (0.04, 0.14), (0.07, 0.24), (0.1, 0.29), (0.17, 0.3)], "#f6f4f0")
        cap.lines([[(0, 0.1), (1, 0.1)]], "#b8b4ac", 0.03, inside=True)
    pen.bar((0.15, 0.27, 0.21, 0.94), "#ffffff70", radius=0.05, soft=0.03, inside=True)


def draw_orange_juice(pen: Pen, rng: Rng) -> None:
    """A clear bottle of orange juice with a colored cap and a slice of orange on its label."""
    pen.turned([(0.06, 0.24), (0.16, 0.24), (0.34, 0.48), (0.97, 0.48), (1, 0.42)], "#e4ecee")
    juice = rng.choice(("#f9a51a", "#fbb52c"))
    pen.turned([(0.15, 0.21), (0.18, 0.25), (0.34, 0.46), (0.97, 0.46), (0.99, 0.4)], juice)
    pen.bar((0, 0.44, 1, 0.86), "#fdf6e0", inside=True)
    pen.oval((0.2, 0.46, 0.8, 0.69), "#f07f13")
    pen.oval((0.24, 0.475, 0.76, 0.675), "#fff0cc")
    for k in range(8):
        turns = [math.tau * (k + d) / 8 for d in (0.1, 0.5, 0.9)]
        rim = [(0.5 + 0.24 * math.cos(a), 0.575 + 0.093 * math.sin(a)) for a in turns]
        pen.polygon([(0.5, 0.575), *rim], "#f7921e")
    pen.text(rng.choice(("JUICE", "ORANGE")), (0.1, 0.72, 0.9, 0.83), "#d8600a")
    pen.shade_round(0.38)
    with pen.turned_part() as cap:
        cap.bar((0.23, 0, 0.77, 0.085), rng.choice(("#2f8f3e", "#f07f13", "#f4f4f0")), radius=0.05)
        cap.lines([[(x / 16, 0.02), (x / 16, 0.085)] for x in range(16)], "#00000030", 0.02, inside=True)
    pen.bar((0.13, 0.32, 0.19, 0.95), "#ffffffa0", radius=0.05, soft=0.03, inside=True)


def draw_onion(pen: Pen, rng: Rng) -> None:
    """A yellow or red onion with papery stripes and a dry tip."""
    skin, stripe = rng.choice((("#d39a45", "#a8682099"), ("#c98a3a", "#96581a99"), ("#8c2b52", "#5c163599")))
    half = [(0.05, 0.01), (0.06, 0.1), (0.14, 0.2), (0.4, 0.34), (0.49, 0.58), (0.36, 0.85), (0.1, 0.95)]
    pen.lines([[(0.5, 0.92), (0.5 + dx, 0.995)] for dx in (-0.12, -0.06, 0, 0.06, 0.12)], "#cdb78a", 0.02)
    pen.fruit(half, skin)
    for bulge in (-0.9, -0.65, -0.4, -0.18, 0.05, 0.25, 0.48, 0.7, 0.9):
        path = [(0.5 + bulge * dx * rng.uniform(0.97, 1.03), y) for dx, y in half]
        pen.lines([path], stripe, rng.uniform(0.008, 0.022), inside=True)
    pen.fruit([(0.06, 0.01), (0.07, 0.1), (0.14, 0.2)], "#b98a4a90", inside=True)
    pen.shade_ball(0.55)
    pen.shine((0.22, 0.36, 0.36, 0.56), 130)


def draw_pepper(pen: Pen, rng: Rng) -> None:
    """A red, green or yellow bell pepper: three lobes and a thick green stalk."""
    skin = rng.choice(("#cf1d1f", "#3c8a2e", "#f2c014"))
    lobe = [(0.03, 0.32), (0.2, 0.16), (0.42, 0.22), (0.5, 0.8), (0.36, 0.99), (0.18, 0.93), (0.06, 0.66)]
    pen.spline(lobe, skin)
    pen.spline([(1 - x, y) for x, y in lobe], skin)
    pen.spline([(0.3, 0.26), (0.5, 0.18), (0.7, 0.26), (0.73, 0.6), (0.62, 0.94), (0.38, 0.94), (0.27, 0.6)], skin)
    groove = ((0.1, 0.24), (0.2, 0.4), (0.22, 0.65), (0.13, 0.95))
    grooves = [[(0.5 + side * dx, y) for dx, y in groove] for side in (-1, 1)]
    pen.lines(grooves, "#00000070", 0.035, soft=0.025, inside=True)
    pen.shade_ball(0.55)
    pen.oval((0.3, 0.17, 0.7, 0.27), "#00000050", soft=0.03, inside=True)
    stalk = [(0.32, 0.21), (0.45, 0.17), (0.44, 0.04), (0.58, 0.0), (0.56, 0.17), (0.68, 0.21), (0.5, 0.26)]
    pen.spline(stalk, "#4f8a35")
    pen.lines([[(0.5, 0.05), (0.5, 0.2)]], "#8bbb62", 0.03)
    for x in (0.14, 0.42, 0.78):
        pen.shine((x, 0.34, x + 0.08, 0.56), 170)


def draw_tomato(pen: Pen, rng: Rng) -> None:
    """A red tomato under its green star."""
    half = [(0.1, 0.1), (0.36, 0.1), (0.49, 0.42), (0.42, 0.78), (0.2, 0.98)]
    pen.fruit(half, rng.choice(("#d9241c", "#e0351f", "#c81a18")))
    pen.shade_ball(0.55)
    pen.oval((0.3, 0.1, 0.7, 0.24), "#00000030", soft=0.04, inside=True)
    for angle in (0.05, 0.8, 1.5, 2.3, 3.1):
        x, y = 0.5 + 0.3 * math.cos(angle), 0.16 + 0.17 * math.sin(angle)
        side = 0.05 * math.sin(angle), 0.05 * math.cos(angle)
        pen.polygon([(0.5 - side[0], 0.14 + side[1]), (x, y), (0.5 + side[0], 0.14 - side[1])], "#3f8a30")
    pen.spline([(0.43, 0.15), (0.46, 0.08), (0.45, 0.0), (0.54, 0.0), (0.55, 0.08), (0.58, 0.15)], "#4f9a3c")
    pen.shine((0.2, 0.28, 0.38, 0.46), 190)


def draw_water(pen: Pen, rng: Rng) -> None:
    """A clear blue plastic bottle with grip rings and a small label."""
    tone = rng.choice(("#a9d8f0", "#8cc6ea", "#bfe3f2"))
    pen.turned([(0.05, 0.17), (0.1, 0.18), (0.28, 0.49), (0.55, 0.45), (0.97, 0.49), (1, 0.4)], f"{tone}d0")
    pen.bar((0, 0.13, 1, 1), "#4fa6dc48", inside=True)
    pen.lines([[(0.3, 0.13), (0.7, 0.13)]], "#ffffffc0", 0.04, inside=True)
    for y in (0.64, 0.7, 0.76, 0.82, 0.88):
        ring = [(x / 8, y + 0.008 * math.sin(math.pi * x / 8)) for x in range(9)]
        pen.lines([ring], "#2f7fb870", 0.035, inside=True)
        pen.lines([[(x, y - 0.01) for x, y in ring]], "#ffffff80", 0.025, inside=True)
    label, ink = rng.choice((("#1f62b0", "#ffffff"), ("#f4f8fb", "#16508f"), ("#1f8496", "#ffffff")))
    wave = [(0, 0.5), (0.25, 0.46), (0.5, 0.5), (0.75, 0.54), (1, 0.5)]
    pen.bar((0, 0.36, 1, 0.58), label, inside=True)
    pen.spline([*wave, (1, 0.6), (0, 0.6)], "#6cc0ea", inside=True)
    if rng.random() < 0.6:
        pen.text("WATER", (0.08, 0.375, 0.92, 0.455), ink)
    pen.shade_round(0.35)
    with pen.turned_part() as cap:
        cap.bar((0.29, 0, 0.71, 0.06), rng.choice(("#1f62b0", "#e9f1f6", "#2fa0d8")), radius=0.05)
    pen.bar((0.14, 0.26, 0.22, 0.96), "#ffffffb0", radius=0.05, soft=0.03, inside=True)


def draw_milk(pen: Pen, rng: Rng) -> None:
    """A gable-top carton, its narrow side turned a little to the viewer."""
    ink = rng.choice(("#1f6fbf", "#2f9a4a", "#c8202e"))
    pen.polygon([(0.0, 0.26), (0.7, 0.26), (0.7, 1), (0.0, 1)], "#fbfbf8")
    pen.polygon([(0.7, 0.26), (1, 0.23), (1, 0.96), (0.7, 1)], "#cdd2d6")
    pen.polygon([(0.0, 0.26), (0.12, 0.09), (0.82, 0.07), (0.7, 0.26)], "#eceff0")
    pen.polygon([(0.7, 0.26), (0.82, 0.07), (1, 0.23)], "#b4bbc1")
    pen.polygon([(0.12, 0.01), (0.82, 0.0), (0.82, 0.08), (0.12, 0.1)], ink)
    pen.lines([[(0.12, 0.09), (0.82, 0.075)], [(0.0, 0.26), (0.7, 0.26), (1, 0.23)]], "#00000040", 0.02)
    pen.oval((0.3, 0.14, 0.5, 0.21), ink)
    pen.oval((0.33, 0.145, 0.47, 0.19), "#ffffff80")
    pen.polygon([(0.0, 0.68), (0.18, 0.63), (0.36, 0.69), (0.54, 0.73), (0.7, 0.67), (0.7, 1), (0, 1)], ink)
    pen.face([(0.7, 0.67), (0.85, 0.63), (1, 0.67), (1, 0.96), (0.7, 1)], ink, "#00000030")
    pen.text("MILK", (0.06, 0.36, 0.64, 0.56), ink)
    pen.spline([(0.35, 0.75), (0.45, 0.86), (0.35, 0.93), (0.25, 0.86)], "#ffffffe0")  # a drop


def draw_tabasco(pen: Pen, rng: Rng) -> None:
    """The tiny bottle: red sauce, red cap, a diamond on the label."""
    pen.turned([(0.12, 0.19), (0.3, 0.2), (0.44, 0.48), (0.98, 0.48), (1, 0.42)], "#dfe6e4")
    pen.turned([(0.27, 0.15), (0.31, 0.2), (0.45, 0.44), (0.97, 0.44), (0.985, 0.4)], "#c0301a")
    pen.bar((0, 0.24, 1, 0.3), "#2f7a3f", inside=True)
    pen.polygon([(0.5, 0.46), (0.97, 0.7), (0.5, 0.94), (0.03, 0.7)], "#f8f3e4", inside=True)
    pen.lines([[(0.5, 0.5), (0.88, 0.7), (0.5, 0.9), (0.12, 0.7), (0.5, 0.5)]], "#2f7a3f", 0.045, inside=True)
    if rng.random() < 0.6:
        pen.text("HOT", (0.26, 0.65, 0.74, 0.75), "#b01c14")
    else:
        pen.oval((0.34, 0.64, 0.66, 0.76), "#b01c14")
    pen.shade_round(0.42)
    with pen.turned_part() as cap:
        cap.turned([(0, 0.2), (0.02, 0.24), (0.14, 0.26)], "#c9171b")
        cap.lines([[(x / 18, 0.02), (x / 18, 0.14)] for x in range(18)], "#00000038", 0.025, inside=True)
    pen.bar((0.12, 0.46, 0.19, 0.94), "#ffffff80", radius=0.05, soft=0.03, inside=True)


def draw_mustard(pen: Pen, rng: Rng) -> None:
    """A yellow squeeze bottle with a pointed nozzle."""
    pen.turned([(0.26, 0.36), (0.3, 0.47), (0.4, 0.49), (0.96, 0.49), (1, 0.44)], rng.choice(("#f2c417", "#e8b410")))
    pen.bar((0, 0.48, 1, 0.82), "#fdf3cf", inside=True)
    pen.lines([[(0, y), (1, y)] for y in (0.48, 0.82)], "#8a5a12", 0.03, inside=True)
    pen.text("MUSTARD", (0.08, 0.56, 0.92, 0.74), "#7a4a0e")
    pen.shade_round(0.42)
    with pen.turned_part() as cap:
        color = rng.choice(("#c8231c", "#f2c417", "#2f8040"))
        cap.turned([(0, 0.05), (0.16, 0.13), (0.2, 0.36), (0.27, 0.38)], color)
    pen.bar((0.13, 0.31, 0.2, 0.96), "#ffffff90", radius=0.05, soft=0.03, inside=True)


# -------------------------------------------------------------------------------------- the clutter


def draw_carton(pen: Pen, rng: Rng) -> None:
    """A plain box without any print."""
    side = rng.choice(("#b98d5c", "#8d9aa8", "#c9bfae", "#7d6a8a"))
    pen.polygon([(0, 0.16), (0.8, 0.16), (0.8, 1), (0, 1)], side)
    pen.face([(0, 0.16), (0.2, 0), (1, 0), (0.8, 0.16)], side, "#ffffff40")
    pen.face([(0.8, 0.16), (1, 0), (1, 0.84), (0.8, 1)], side, "#00000048")


def draw_bowl(pen: Pen, rng: Rng) -> None:
    """A china bowl."""
    china = rng.choice(("#6f8fb0", "#d8d4ca", "#b06f5a"))
    pen.fruit([(0.47, 0.06), (0.46, 0.3), (0.34, 0.75), (0.2, 0.95), (0.18, 0.99)], china)
    pen.shade_round()
    pen.oval((0.02, 0.0, 0.98, 0.26), "#ece8e0")
    pen.oval((0.05, 0.04, 0.95, 0.25), "#9a968c")


def draw_plates(pen: Pen, rng: Rng) -> None:
    """A stack of plates."""
    for y in (0.55, 0.4, 0.26, 0.12, 0.0):
        pen.oval((0, y + 0.05, 1, y + 0.45), "#a9adb2")
        pen.oval((0, y, 1, y + 0.4), "#eef0f2")
    pen.oval((0.2, 0.07, 0.8, 0.31), rng.choice(("#d5dade", "#c9d6e4")))


def draw_bag(pen: Pen, rng: Rng) -> None:
    """A crumpled bag."""
    reach = [rng.uniform(0.4, 0.5) for _ in range(24)]
    turns = [math.tau * k / len(reach) for k in range(len(reach))]
    rim = [(0.5 + r * math.cos(a), 0.5 + r * math.sin(a)) for r, a in zip(reach, turns, strict=True)]
    pen.polygon(rim, rng.choice(("#d9d3c4", "#9fb0a8", "#c4a98a")))
    for _ in range(16):
        x, y = rng.random(), rng.random()
        fold = [(x + rng.uniform(-0.3, 0.3), y + rng.uniform(-0.3, 0.3)) for _ in range(3)]
        pen.polygon(fold, rng.choice(("#ffffff30", "#00000020")), soft=0.006, inside=True)
    pen.shade_ball(0.4)


def draw_tub(pen: Pen, rng: Rng) -> None:
    """A food container with leftovers and a snap lid."""
    pen.polygon([(0.03, 0.18), (0.97, 0.18), (0.9, 1), (0.1, 1)], "#dfe7eae0")
    pen.spline([(0.06, 0.5), (0.3, 0.42), (0.6, 0.52), (0.93, 0.45), (0.89, 0.97), (0.11, 0.97)], "#a8764a")
    pen.specks(rng, 40, "#d8b070", 0.06)
    pen.bar((0, 0.0, 1, 0.2), rng.choice(("#3f78b0", "#7a8a94", "#4a9a8a")), radius=0.03)
    pen.bar((0.05, 0.3, 0.1, 0.9), "#ffffff80", soft=0.02, inside=True)


class Kind(NamedTuple):
    """One kind of object: how to draw it, its usual size, and how far it may lean."""

    draw: Callable[[Pen, Rng], None]
    width_cm: float
    height_cm: float
    lean_degrees: float = 3


GROCERIES: dict[str, Kind] = {
    "avocado": Kind(draw_avocado, 8, 11, 20),
    "orange": Kind(draw_orange, 8.5, 8.5, 25),
    "butter": Kind(draw_butter, 13, 7, 3),
    "champagne": Kind(draw_champagne, 9, 31),
    "eggBox": Kind(draw_egg_box, 25, 11, 2),
    "gerkin": Kind(draw_gerkin, 9.5, 14.5),
    "joghurt": Kind(draw_joghurt, 9, 10),
    "ketchup": Kind(draw_ketchup, 8, 22),
    "orangeJuice": Kind(draw_orange_juice, 9.5, 23),
    "onion": Kind(draw_onion, 8.5, 9.5, 20),
    "pepper": Kind(draw_pepper, 9.5, 11, 15),
    "tomato": Kind(draw_tomato, 8.5, 8, 15),
    "water": Kind(draw_water, 8.5, 29),
    "milk": Kind(draw_milk, 10, 23),
    "tabasco": Kind(draw_tabasco, 5, 15),
    "mustard": Kind(draw_mustard, 7, 18),
}
CLUTTER: dict[str, Kind] = {
    "carton": Kind(draw_carton, 13, 17),
    "bowl": Kind(draw_bowl, 17, 9),
    "plates": Kind(draw_plates, 22, 6, 0),
    "bag": Kind(draw_bag, 14, 12, 20),
    "tub": Kind(draw_tub, 17, 9, 2),
}
KINDS = GROCERIES | CLUTTER
CLASSES: tuple[str, ...] = tuple(GROCERIES)
"""The names of the sixteen classes."""
