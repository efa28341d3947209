"""Where the landmarks of iBUG lie on MediaPipe's face mesh: three vertices and their weights for each.

Learned from 1716 images of 300-W train, in which both MediaPipe 0.10.21 (attention mesh) and the annotations were
at hand, and from their mirror images: of all triples of the 60 nearest vertices the one whose weighted mean, with
weights of sum 1 between -1.5 and 1.5, has the least mean squared distance in units of the eye distance. Left and right
are mirror images. 300-W is for research use; what stands here are statistics of it.
"""

from __future__ import annotations

# Landmark of iBUG, then vertex and weight three times.
_TABLE = """
0 71 -1.074 21 1.489 137 0.585
1 123 0.669 162 1.2 71 -0.869
2 177 1.128 205 -0.304 229 0.176
3 147 0.605 136 0.937 211 -0.542
4 138 0.926 149 0.515 32 -0.441
5 150 1.212 180 0.323 201 -0.535
6 176 1.483 201 -0.998 89 0.515
7 148 1.368 200 -0.691 16 0.323
8 152 1.423 200 -0.751 16 0.328
9 377 1.368 200 -0.691 16 0.323
10 400 1.483 421 -0.998 319 0.515
11 379 1.212 404 0.323 421 -0.535
12 367 0.926 378 0.515 262 -0.441
13 376 0.605 365 0.937 431 -0.542
14 401 1.128 425 -0.304 449 0.176
15 352 0.669 389 1.2 301 -0.869
16 301 -1.074 251 1.489 366 0.585
17 46 1.43 105 -0.3 118 -0.13
18 46 1.378 110 -1.167 145 0.789
19 222 0.747 63 0.697 246 -0.444
20 107 0.865 221 0.642 168 -0.507
21 55 1.149 168 -0.336 336 0.187
22 285 1.149 168 -0.336 107 0.187
23 336 0.865 441 0.642 168 -0.507
24 442 0.747 293 0.697 466 -0.444
25 276 1.378 339 -1.167 374 0.789
26 276 1.43 334 -0.3 347 -0.13
27 193 0.419 417 0.419 6 0.162
28 193 0.273 417 0.273 5 0.454
29 357 0.106 128 0.106 5 0.788
31 75 1.203 167 -0.435 72 0.232
32 99 1.196 167 -0.393 11 0.197
33 2 1.109 164 -0.326 0 0.217
34 328 1.196 393 -0.393 11 0.197
35 305 1.203 393 -0.435 302 0.232
37 160 1.04 163 -0.302 145 0.262
38 157 0.651 160 0.813 161 -0.464
40 144 0.624 243 0.447 222 -0.071
41 7 1.211 23 0.288 130 -0.499
43 384 0.651 387 0.813 388 -0.464
44 387 1.04 390 -0.302 374 0.262
46 249 1.211 253 0.288 359 -0.499
47 373 0.624 463 0.447 442 -0.071
49 39 0.859 88 -0.11 146 0.251
50 37 0.837 167 0.388 75 -0.225
52 267 0.837 393 0.388 305 -0.225
53 269 0.859 318 -0.11 375 0.251
55 321 0.865 15 1.19 14 -1.055
56 17 0.826 404 0.369 178 -0.195
58 17 0.826 180 0.369 402 -0.195
59 91 0.865 15 1.19 14 -1.055
61 12 1.419 267 -0.558 165 0.139
63 12 1.419 37 -0.558 391 0.139
65 14 1.228 408 0.128 178 -0.356
67 14 1.228 184 0.128 402 -0.356
"""


def _rules() -> dict[int, dict[int, float]]:
    rows = (line.split() for line in _TABLE.strip().splitlines())
    return {int(row[0]): {int(v): float(w) for v, w in zip(row[1::2], row[2::2], strict=True)} for row in rows}


IBUG68_VERTICES: dict[int, dict[int, float]] = _rules()
IBUG68_ERROR = 0.046
"""Mean error of these landmarks on 259 validation faces of 300-W, in distances of the outer eye corners."""
