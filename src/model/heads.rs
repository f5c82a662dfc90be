//! Attention of all heads of a block, spread over the threads.

use std::ops::Range;

use rayon::prelude::*;

use crate::kernels::{HeadAttention, HeadRows};

/// Heads of an attention block.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads; each serves `query / kv` consecutive query heads.
    pub kv: usize,
    /// Numbers of a head.
    pub dim: usize,
}

/// Rows of scores that exist at a time, each as long as what it sees, over all threads together.
pub(crate) const SCORE_ROWS: usize = 64;

/// Rows of scores of one task, where the threads are few.
const TASK_ROWS: usize = 32;

/// Work below this many multiplications is not worth a second thread.
const PARALLEL_FROM: usize = 1 << 16;

/// Keys and values of one head: each a row a token.
pub(super) type KeysAndValues<'a> = (HeadRows<'a>, HeadRows<'a>);

/// Some neighbouring tokens with the query heads of one key-value head.
struct Task<'a> {
    kv_head: usize,
    first_token: usize,
    /// `[tokens, query heads of the kv head, dim]`.
    out: &'a mut [f32],
}

/// Puts what every token's heads see, mixed, in the place of its queries, `[tokens, query heads * dim]`; `seen` says which
/// keys a token sees.
pub(super) fn attend<'a>(
    rows: &mut [f32],
    heads: Heads,
    of_head: impl Fn(usize) -> KeysAndValues<'a> + Sync,
    seen: impl Fn(usize) -> Range<usize> + Sync,
) {
    let q = &*rows;
    let group = heads.query / heads.kv;
    let (width, part) = (heads.query * heads.dim, group * heads.dim);
    let tokens = q.len() / width;
    let threads = rayon::current_num_threads();
    let task_rows = (SCORE_ROWS / threads).min(TASK_ROWS);
    let task_tokens = (task_rows / group).max(1);
    let mut by_head = vec![0.0; q.len()];
    let mut tasks = Vec::new();
    for (kv_head, out) in by_head.chunks_mut((tokens * part).max(1)).enumerate() {
        for (at, out) in out.chunks_mut(task_tokens * part).enumerate() {
            let first_token = at * task_tokens;
            tasks.push(Task {
                kv_head,
                first_token,
                out,
            });
        }
    }
    let run = |(queries, ranges, scores): &mut (Vec<f32>, Vec<Range<usize>>, Vec<f32>),
               task: &mut Task<'_>| {
        queries.clear();
        ranges.clear();
        for token in task.first_token..task.first_token + task.out.len() / part {
            let at = token * width + task.kv_head * part;
            queries.extend_from_slice(&q[at..at + part]);
            ranges.extend((0..group).map(|_| seen(token)));
        }
        let (keys, values) = of_head(task.kv_head);
        let head = HeadAttention {
            queries,
            seen: ranges,
            keys,
            values,
            dim: heads.dim,
        };
        head.apply(scores, task.out);
    };
    let work = (0..tokens).map(|token| seen(token).len()).sum::<usize>() * width;
    if work < PARALLEL_FROM {
        let mut buffers = Default::default();
        tasks.iter_mut().for_each(|task| run(&mut buffers, task));
    } else {
        // Where there are more threads than the scores may have rows for, some of them wait.
        let at_once = (SCORE_ROWS / (task_tokens * group)).max(1);
        let at_once = if threads <= at_once {
            tasks.len()
        } else {
            at_once
        };
        for tasks in tasks.chunks_mut(at_once) {
            tasks.par_iter_mut().for_each_init(Default::default, run);
        }
    }
    for (token, mixed) in rows.chunks_exact_mut(width).enumerate() {
        for (kv_head, mixed) in mixed.chunks_exact_mut(part).enumerate() {
            let at = (kv_head * tokens + token) * part;
            mixed.copy_from_slice(&by_head[at..at + part]);
        }
    }
}

/// The same of rows that were just computed: `q` `[rows, query heads * dim]`, `k` and `v` `[rows, kv heads * dim]`; returns
/// the shape of `q`. No more than four such arrays exist at a time.
pub(super) fn attend_rows(
    mut q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    heads: Heads,
    seen: impl Fn(usize) -> Range<usize> + Sync,
) -> Vec<f32> {
    let k = by_head(k, heads);
    let v = by_head(v, heads);
    let of_one = k.len() / heads.kv;
    let of_head = |head| {
        let at = head * of_one..(head + 1) * of_one;
        (HeadRows::Numbers(&k[at.clone()]), HeadRows::Numbers(&v[at]))
    };
    attend(&mut q, heads, of_head, seen);
    q
}

/// `[rows, kv heads * dim]` as `[kv heads, rows, dim]`.
fn by_head(x: Vec<f32>, heads: Heads) -> Vec<f32> {
    let (width, dim) = (heads.kv * heads.dim, heads.dim);
    let mut out = Vec::with_capacity(x.len());
    for head in 0..heads.kv {
        for row in x.chunks_exact(width) {
            out.extend_from_slice(&row[head * dim..(head + 1) * dim]);
        }
    }
    out
}
