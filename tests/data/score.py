# Origin: the reference scorer of the project's shared data tools, unchanged below this line; tests compare with it.
"""Reference scorer for keypoint and box predictions (numpy only): one definition of every figure that we quote.

    score.py TRUTH.json PREDICTIONS.json [--min-side 48] [--threshold T]

TRUTH: COCO JSON; keypoint names in categories[0]. PREDICTIONS: {"keypoints": [names], "results": [{"image_id",
"annotation_id" (only when the labelled box was given), "bbox": [x, y, w, h], "keypoints": [x, y, score, ...], "score"}]}.
Points are compared by name. Prints one JSON object:

  torso.2           share of labelled joints within 0.2 of the distance right hip - left shoulder; people lacking either are left out
  within.1, .2      share of labelled joints within that part of the box's long side; people of --min-side and more on both sides
  oks, oks_ap       mean OKS, and AP over 0.50:0.05:0.95 with each prediction bound to its person (COCO's keypoint AP only with the
                    given box and one person a picture); COCO sigmas, the annotation's area
  box_ap50          101-point AP at IoU 0.5; boxes under --min-side on a side and crowds are ignore, as are unmatched small predictions
  joints            how many of the truth's keypoint names the predictions have (the others are left out of every figure)
  clean             share of the pictures without people in which nothing scores --threshold or more

With "annotation_id" each prediction belongs to its annotation (given box). Without it, torso, within and oks use the
best-scored instance where a picture has one labelled person, else the instance with the highest box IoU (at least 0.3);
a person without a prediction counts as missed.
"""
import argparse, json, numpy as np

SIGMA = dict(zip("nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle".split(),
                 [.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089]))


def iou(a, b, crowd=False):
    """IoU of two [x, y, w, h]; with crowd, the share of a that lies in b"""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]); h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    i = max(0., w) * max(0., h)
    return i / (a[2] * a[3] + (0. if crowd else b[2] * b[3] - i) + 1e-9)


def average_precision(rows, positives):
    """rows (score, hit) -> 101-point interpolated AP"""
    if not rows or not positives:
        return 0.
    hit = np.array([h for _, h in sorted(rows, key=lambda r: -r[0])], float); tp, n = np.cumsum(hit), np.arange(1, len(hit) + 1)
    rec, pre = tp / positives, tp / n
    return float(np.mean([pre[rec >= t].max() if (rec >= t).any() else 0. for t in np.linspace(0, 1, 101)]))


def score(truth, pred, min_side=48., threshold=None):
    names = truth["categories"][0].get("keypoints", []); where = {n: i for i, n in enumerate(pred["keypoints"])}
    people, crowd, by_image = {}, [], {}
    for a in truth["annotations"]:
        people.setdefault(a["image_id"], []).append(a)
    for r in pred["results"]:
        by_image.setdefault(r["image_id"], []).append(r)
    given = {r["annotation_id"]: r for r in pred["results"] if "annotation_id" in r}
    torso, near, oks_rows, out = [], {.1: [], .2: []}, [], {}
    for iid, anns in people.items():
        for a in anns:
            k = np.array(a.get("keypoints", []), float).reshape(-1, 3)
            if a.get("iscrowd") or not len(k) or len(k) != len(names) or not (k[:, 2] > 0).any():
                continue
            rows = by_image.get(iid, [])
            if given:
                r = given.get(a["id"])
            elif len(anns) == 1:
                r = max(rows, key=lambda r: r["score"], default=None)
            else:
                r = max((q for q in rows if iou(q["bbox"], a["bbox"]) >= .3), key=lambda q: iou(q["bbox"], a["bbox"]), default=None)
            d = np.full(len(k), np.inf)
            if r is not None:
                p = np.array(r["keypoints"], float).reshape(-1, 3)
                for i, n in enumerate(names):
                    if n in where:
                        d[i] = np.hypot(*(p[where[n], :2] - k[i, :2]))
            d[np.isnan(d)] = np.inf
            v = (k[:, 2] > 0) & np.array([n in where for n in names]); at = {n: i for i, n in enumerate(names)}
            h, s = at.get("right_hip"), at.get("left_shoulder")
            if h is not None and s is not None and k[h, 2] > 0 and k[s, 2] > 0:
                torso += list(d[v] <= .2 * np.hypot(*(k[h, :2] - k[s, :2])))
            if min(a["bbox"][2:]) >= min_side:
                for t in near:
                    near[t] += list(d[v] <= t * max(a["bbox"][2:]))
            c = v & np.array([n in SIGMA for n in names])
            if c.any() and "area" in a:
                sg = np.array([SIGMA.get(n, 1.) for n in names]); oks_rows.append((r["score"] if r else 0., float(np.exp(-d[c] ** 2 / (2 * (2 * sg[c]) ** 2 * a["area"])).mean())))
    if torso: out["torso.2"] = float(np.mean(torso))
    for t, x in near.items():
        if x: out[f"within{str(t)[1:]}"] = float(np.mean(x))
    if oks_rows:
        out["oks"] = float(np.mean([o for _, o in oks_rows]))
        out["oks_ap"] = float(np.mean([average_precision([(s, o >= t) for s, o in oks_rows], len(oks_rows)) for t in np.arange(.5, .951, .05)]))
    if not given:
        rows, positives, clean = [], 0, []
        for im in truth["images"]:
            gts = [(a["bbox"], bool(a.get("iscrowd")) or min(a["bbox"][2:]) < min_side, bool(a.get("iscrowd"))) for a in people.get(im["id"], [])]; used = set(); positives += sum(not g[1] for g in gts)
            found = sorted(by_image.get(im["id"], []), key=lambda r: -r["score"])
            if not gts and threshold is not None: clean.append(not any(r["score"] >= threshold for r in found))
            for r in found:
                o, j = max(((iou(r["bbox"], g, cr), j) for j, (g, ig, cr) in enumerate(gts) if j not in used or ig), default=(0., -1), key=lambda t: (t[0] >= .5 and not gts[t[1]][1], t[0]))
                if o >= .5:
                    used.add(j)
                    if not gts[j][1]: rows.append((r["score"], True))
                elif min(r["bbox"][2:]) >= min_side: rows.append((r["score"], False))
        if positives: out["box_ap50"] = average_precision(rows, positives)
        if clean: out["clean"] = float(np.mean(clean))
    out["joints"] = sum(n in where for n in names)
    out["people"] = len(oks_rows) or len(near[.1]) or sum(map(len, people.values()))
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in out.items()}


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("truth"); ap.add_argument("predictions"); ap.add_argument("--min-side", type=float, default=48.); ap.add_argument("--threshold", type=float)
    a = ap.parse_args()
    print(json.dumps(score(json.load(open(a.truth)), json.load(open(a.predictions)), a.min_side, a.threshold)))
