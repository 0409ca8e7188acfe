"""findings.json by brute force, in float64."""

import collections

import numpy as np


def by_force(ids, pixels, labels, centroids) -> dict:
    """The content of findings.json, computed from all distances at once."""
    images, wide = pixels / 255.0, centroids.astype(np.float64)
    apart = np.sqrt(np.square(images[:, None] - wide).sum(axis=2))
    clusters = apart.argmin(axis=1)
    own = apart.min(axis=1).astype(np.float32).astype(np.float64)  # as assignments have them
    second = np.sort(apart, axis=1)[:, 1]
    silhouettes = (second - apart.min(axis=1)) / second
    between = np.sqrt(np.square(wide[:, None] - wide).sum(axis=2)) + np.diag([np.inf] * len(wide))
    medians = np.array([np.median(own[clusters == c]) for c in range(len(wide))])
    scores = own / np.where(medians > 0, medians, 1)[clusters]
    about, suspects = [], []
    for c in range(len(wide)):
        rows = np.flatnonzero(clusters == c)
        (label, count), *_ = collections.Counter(labels[rows].tolist()).most_common(1)
        about.append(
            {
                "cluster": c,
                "size": len(rows),
                "mean_distance": own[rows].mean(),
                "max_distance": own[rows].max(),
                "silhouette": silhouettes[rows].mean(),
                "nearest_cluster": int(between[c].argmin()),
                "majority_label": str(label),
                "majority_share": count / len(rows),
                "representative": min((own[r], ids[r]) for r in rows)[1],
            }
        )
        if count / len(rows) >= 0.9:
            suspects += [
                ((-count / len(rows), scores[r], ids[r]), c, label)
                for r in rows
                if labels[r] != label
            ]
    unusual = sorted((-scores[r], ids[r], r) for r in range(len(ids)) if scores[r] > 1)[:200]
    same = collections.defaultdict(list)
    for row, name in zip(pixels, ids, strict=True):
        same[row.tobytes()].append(name)
    groups = sorted((sorted(g) for g in same.values() if len(g) > 1), key=lambda g: (-len(g), g))
    by_id = dict(zip(ids, labels.tolist(), strict=True))
    return {
        "clusters": about,
        "outliers": [
            {"id": name, "cluster": int(clusters[r]), "distance": own[r], "score": scores[r]}
            for _, name, r in unusual
        ],
        "duplicates": groups,
        "num_duplicate_groups": len(groups),
        "num_duplicates": sum(len(group) - 1 for group in groups),
        "singletons": [c["cluster"] for c in about if c["size"] == 1],
        "suspects": [
            {"id": key[2], "label": str(by_id[key[2]]), "cluster": c, "majority_label": str(label)}
            for key, c, label in sorted(suspects)
        ],
        "num_suspects": len(suspects),
        "rejected": 0,
        "skipped": 0,
    }


def rounded(value):
    """The same with figures to nine digits."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
