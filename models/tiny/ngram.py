"""Interpolated modified Kneser-Ney n-gram language model over token ids.

Formulas: S. F. Chen and J. Goodman, "An empirical study of smoothing techniques
for language modeling", Computer Speech and Language 13 (1999), 359-394.  With
c the count of an n-gram, h its context and h' that context without its first id,

    p(w | h) = (c(hw) - D(c(hw))) / sum_v c(hv) + g(h) p(w | h')
    g(h) = sum_v D(c(hv)) / sum_v c(hv)

and p(w | h) = p(w | h') where h never occurred as a context.
"""

import numpy as np


def discounts(counts):
    """[0, D1, D2, D3+] from the counts of counts (Chen & Goodman 1999).

    Where these are undefined or not positive, which happens with few distinct
    n-grams or none that are rare, [0, 0.5, 1, 1.5]."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == c)) for c in (1, 2, 3, 4))
    if n1 and n2 and n3:
        y = n1 / (n1 + 2 * n2)
        found = np.array([0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        if found[1:].min() > 0:
            return found
    return np.array([0, 0.5, 1, 1.5])


def find(table, keys):
    """(found, index) of every key in a sorted table; index is 0 where not found."""
    index = np.searchsorted(table, keys)
    found = index < len(table)
    found[found] = table[index[found]] == keys[found]
    index[~found] = 0
    return found, index


class KneserNey:
    """The model estimated from arrays of ids; no n-gram crosses from one to the next.

    The highest order has plain counts.  A lower one counts the distinct ids that
    precede an n-gram; the start of an array counts as one such id.  Below the
    unigrams lies the uniform distribution over the vocabulary.
    """

    def __init__(self, arrays, order=5, vocab=4096):
        self.order, self.vocab = order, vocab
        self.bits = max(1, (vocab - 1).bit_length())
        if order < 1 or order * self.bits > 64:
            raise ValueError(f"{order} ids of {self.bits} bits do not fit into 64 bits")
        packed, place = self._pack(arrays)
        if not len(packed):
            raise ValueError("no ids to count")
        self.levels = []        # from unigrams up: n-grams, their terms, contexts, their g
        for n in range(order, 0, -1):
            if n == order:
                grams = packed[place >= n - 1]
            else:
                starts = np.unique(packed[place == n - 1] & self._mask(n))
                grams = np.concatenate([grams & self._mask(n), starts])
            grams, counts = np.unique(grams, return_counts=True)
            self.levels.insert(0, (grams, *self._estimate(grams, counts)))

    def _mask(self, n):
        return np.uint64((1 << n * self.bits) - 1)

    def _pack(self, arrays):
        """For every id of the joined arrays: it and those before it in one number
        (the last id lowest), and its place in its own array."""
        arrays = [np.asarray(a) for a in arrays]
        sizes = np.array([len(a) for a in arrays], np.int64)
        ids = np.concatenate([np.zeros(0, np.int64)] + [a.astype(np.int64) for a in arrays])
        if len(ids) and not 0 <= ids.min() <= ids.max() < self.vocab:
            raise ValueError(f"an id lies outside the vocabulary of {self.vocab}")
        place = np.arange(len(ids)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        ids = ids.astype(np.uint64)
        packed = ids.copy()
        for back in range(1, min(self.order, len(ids))):
            packed[back:] |= ids[:-back] << np.uint64(back * self.bits)
        return packed, place

    def _estimate(self, grams, counts):
        """(first term of p for every n-gram, contexts, g of every context)."""
        table = discounts(counts)
        taken = table[np.minimum(counts, 3)]
        contexts = grams >> np.uint64(self.bits)
        new = np.ones(len(grams), bool)
        new[1:] = contexts[1:] != contexts[:-1]
        first = np.flatnonzero(new)
        total = np.add.reduceat(counts, first) if len(first) else np.zeros(0)
        weight = np.add.reduceat(taken, first) / total if len(first) else np.zeros(0)
        width = np.diff(first, append=len(grams))
        return (counts - taken) / np.repeat(total, width), contexts[first], weight

    def _log_probs(self, rows):
        """Log probability of every id but the first of each row, rows joined."""
        packed, place = self._pack(rows)
        packed, place = packed[place >= 1], place[place >= 1]
        p = np.full(len(packed), 1 / self.vocab)
        for n, (grams, terms, contexts, weights) in enumerate(self.levels, 1):
            at = np.flatnonzero(place >= n - 1)
            keys = packed[at] & self._mask(n)
            known, index = find(contexts, keys >> np.uint64(self.bits))
            at, keys = at[known], keys[known]
            p[at] *= weights[index[known]]
            seen, index = find(grams, keys)
            p[at[seen]] += terms[index[seen]]
        return np.log(p)

    def log_prob(self, ids):
        """Natural log probability of ids[1], ids[2], ... given up to order - 1 ids before."""
        return self._log_probs([ids])

    def loss(self, rows):
        """Mean negative log-likelihood, in nats, of all ids but the first of each row."""
        return -float(self._log_probs(rows).mean())
