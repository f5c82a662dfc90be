//! Operators against candle's, over shapes that no golden has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

mod made;
mod stem;
mod vocoder;

use candle_core::{DType, Device, Tensor};
use candle_nn::ops;
use sage::core::sampling::uniform;
use sage::formats::{WeightFormat, convert};
use sage::host_memory::Mapped;
use sage::kernels::pointwise::{gelu, gelu_tanh, layer_norm, rms_norm_rows, sigmoid, silu};
use sage::kernels::{Matrix, matmul};
use sage::model::attention::{Attention, Projection};
use sage::model::encoder::attend_within;
use sage::model::experts::{ExpertScratch, GatedBlock};
use sage::model::heads::Heads;
use sage::model::{KvCache, Positions, RotaryTable};

/// Numbers in (-scale, scale), the same for the same seed.
fn numbers(seed: u64, len: usize, scale: f32) -> Vec<f32> {
    let number = |at| (2.0 * uniform(seed, at) - 1.0) as f32 * scale;
    (0..len as u64).map(number).collect()
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

/// Within `tolerance` of max(1, the largest expected number).
fn assert_close(what: &str, found: &[f32], expected: &Tensor, tolerance: f32) {
    let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1.0f32, |most, x| most.max(x.abs()));
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= tolerance * largest,
            "{what}: number {at}: found {found}, candle has {expected} (allowed {})",
            tolerance * largest
        );
    }
}

/// A matrix of f32.
fn matrix(values: &[f32], rows: usize, cols: usize) -> Matrix {
    stored(values, WeightFormat::F32, rows, cols)
}

/// A matrix as it is stored in a format.
fn stored(values: &[f32], format: WeightFormat, rows: usize, cols: usize) -> Matrix {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let len = format.matrix_bytes(rows, cols).unwrap();
    let mut memory = Mapped::new(len).unwrap();
    convert(
        WeightFormat::F32,
        &bytes,
        format,
        &mut memory.pages_mut()[..len],
    )
    .unwrap();
    Matrix::new(memory, format, rows, cols).unwrap()
}

#[test]
fn products_of_every_format_at_odd_shapes() {
    for (rows, cols, x_rows) in [
        (1, 1, 1),
        (3, 5, 2),
        (7, 33, 1),
        (48, 31, 5),
        (49, 129, 9),
        (131, 257, 17),
        (2, 1025, 3),
    ] {
        let w = numbers(rows as u64, rows * cols, 1.0);
        let x = numbers(cols as u64 + 77, x_rows * cols, 1.0);
        for format in WeightFormat::ALL {
            let dtype: DType = format.option().parse().unwrap();
            let mut y = vec![0.0; x_rows * rows];
            let matrix = stored(&w, format, rows, cols);
            matmul(matrix.view(), &x, x_rows, &mut y, &mut Vec::new());
            let w = tensor(&w, &[rows, cols]).to_dtype(dtype).unwrap();
            let w = w.to_dtype(DType::F32).unwrap().t().unwrap();
            let expected = tensor(&x, &[x_rows, cols]).matmul(&w).unwrap();
            let what = format!("{dtype:?} [{rows}, {cols}] by {x_rows}");
            assert_close(&what, &y, &expected, 2e-6);
        }
    }
}

#[test]
fn norms_of_any_width() {
    for width in [1, 3, 31, 64, 257, 1000] {
        for (scale, eps) in [(1.0, 1e-6), (300.0, 1e-5), (1e-3, 1e-6)] {
            let x = numbers(width as u64, 4 * width, scale);
            let (weight, bias) = (numbers(1, width, 2.0), numbers(2, width, 2.0));
            let (cx, cw, cb) = (
                tensor(&x, &[4, width]),
                tensor(&weight, &[width]),
                tensor(&bias, &[width]),
            );
            let what = format!("width {width}, scale {scale}");
            let found = rms_norm_rows(&x, &weight, eps);
            let expected = ops::rms_norm(&cx, &cw, eps).unwrap();
            assert_close(&what, &found, &expected, 2e-6);
            let mut found = vec![0.0; x.len()];
            for (x, out) in x.chunks(width).zip(found.chunks_mut(width)) {
                layer_norm(x, &weight, &bias, eps, out);
            }
            // The one that centres before it squares: what candle's other form loses is not ours to have.
            let expected = ops::layer_norm_slow(&cx, &cw, &cb, eps).unwrap();
            assert_close(&what, &found, &expected, 5e-6);
        }
    }
}

#[test]
fn activations() {
    let x: Vec<f32> = (-2400..=2400).map(|at| at as f32 / 200.0).collect();
    let cx = tensor(&x, &[x.len()]);
    let each = |of: fn(f32) -> f32| x.iter().copied().map(of).collect::<Vec<f32>>();
    assert_close("silu", &each(silu), &cx.silu().unwrap(), 1e-6);
    assert_close("sigmoid", &each(sigmoid), &ops::sigmoid(&cx).unwrap(), 1e-6);
    assert_close("gelu", &each(gelu), &cx.gelu_erf().unwrap(), 1e-6);
    assert_close("gelu_tanh", &each(gelu_tanh), &cx.gelu().unwrap(), 1e-6);
}

/// Softmax attention of q `[heads, rows, dim]` to k and v `[kv, rows, dim]` where `sees(query, key)`.
fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sees: impl Fn(usize, usize) -> bool,
) -> candle_core::Result<Tensor> {
    let (heads, rows, dim) = q.dims3()?;
    let kv = k.dim(0)?;
    let of_head: Vec<u32> = (0..heads)
        .map(|head| (head / (heads / kv)) as u32)
        .collect();
    let of_head = Tensor::from_vec(of_head, heads, &Device::Cpu)?;
    let (k, v) = (k.index_select(&of_head, 0)?, v.index_select(&of_head, 0)?);
    let hidden = |at: usize| match sees(at / rows, at % rows) {
        true => 0.0,
        false => f32::NEG_INFINITY,
    };
    let mask: Vec<f32> = (0..rows * rows).map(hidden).collect();
    let scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * (dim as f64).powf(-0.5))?;
    let scores = scores.broadcast_add(&tensor(&mask, &[rows, rows]))?;
    ops::softmax_last_dim(&scores)?.matmul(&v)
}

/// `[rows, heads * dim]` as `[heads, rows, dim]`.
fn split(x: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let (rows, width) = x.dims2()?;
    x.reshape((rows, heads, width / heads))?
        .transpose(0, 1)?
        .contiguous()
}

/// And back.
fn joined(x: &Tensor) -> candle_core::Result<Tensor> {
    let (heads, rows, dim) = x.dims3()?;
    x.transpose(0, 1)?.reshape((rows, heads * dim))
}

#[test]
fn grouped_attention_of_any_heads() {
    let hidden = 37;
    for (query, kv, dim) in [
        (1, 1, 2),
        (6, 2, 10),
        (8, 1, 16),
        (9, 3, 6),
        (4, 4, 34),
        (8, 2, 64),
        (8, 1, 128),
    ] {
        let heads = Heads { query, kv, dim };
        let weight = |seed, rows, cols| numbers(seed, rows * cols, 0.3);
        let (wq, wk) = (weight(1, query * dim, hidden), weight(2, kv * dim, hidden));
        let (wv, wo) = (weight(3, kv * dim, hidden), weight(4, hidden, query * dim));
        let bias = numbers(5, kv * dim, 0.5);
        let projection = |w: &[f32], rows, cols, bias: Option<&Vec<f32>>| Projection {
            weight: matrix(w, rows, cols),
            bias: bias.cloned(),
        };
        let norm: Vec<f32> = numbers(6, dim, 0.5).iter().map(|x| 1.0 + x).collect();
        let ours = Attention {
            heads,
            q_proj: projection(&wq, query * dim, hidden, None),
            k_proj: projection(&wk, kv * dim, hidden, None),
            v_proj: projection(&wv, kv * dim, hidden, Some(&bias)),
            o_proj: projection(&wo, hidden, query * dim, None),
            q_norm: norm.clone(),
            k_norm: norm.clone(),
            eps: 1e-6,
        };
        let rotary = RotaryTable::new(dim, 10_000.0, [dim / 2, 0, 0]);
        for rows in [1, 2, 13, 70] {
            let x = numbers(rows as u64, rows * hidden, 1.0);
            let angles = rotary.angles(&Positions::text(0, rows));
            let mut cache = KvCache::new(1, kv, dim, rows).unwrap();
            let found = ours.apply(&x, rows, 0, &mut cache, &angles, &mut Vec::new());
            let expected = (|| {
                let x = tensor(&x, &[rows, hidden]);
                let product = |w: &[f32], out| x.matmul(&tensor(w, &[out, hidden]).t()?);
                let (cos, sin) = (
                    tensor(&angles.cos, &[rows, dim / 2]),
                    tensor(&angles.sin, &[rows, dim / 2]),
                );
                let norm = tensor(&norm, &[dim]);
                let turned = |y: Tensor, heads| {
                    let y = ops::rms_norm(&split(&y, heads)?, &norm, 1e-6)?;
                    candle_nn::rotary_emb::rope(&y.unsqueeze(0)?, &cos, &sin)?.squeeze(0)
                };
                let q = turned(product(&wq, query * dim)?, query)?;
                let k = turned(product(&wk, kv * dim)?, kv)?;
                let v = product(&wv, kv * dim)?.broadcast_add(&tensor(&bias, &[kv * dim]))?;
                let mixed = attention(&q, &k, &split(&v, kv)?, |query, key| key <= query)?;
                joined(&mixed)?.matmul(&tensor(&wo, &[hidden, query * dim]).t()?)
            })();
            let what = format!("{heads:?}, {rows} rows");
            assert_close(&what, &found, &expected.unwrap(), 1e-5);
        }
    }
}

#[test]
fn attention_within_windows() {
    for (heads, dim) in [(1, 3), (5, 8), (2, 33)] {
        let (rows, width) = (23, heads * dim);
        let [q, k, v] = [1, 2, 3].map(|seed| numbers(seed, rows * width, 1.5));
        let found = attend_within(&q, &k, &v, heads, dim, &[0..1, 1..9, 9..23]);
        let window = |at: usize| usize::from(at >= 1) + usize::from(at >= 9);
        let expected = (|| {
            let [q, k, v] = [&q, &k, &v].map(|x| split(&tensor(x, &[rows, width]), heads));
            let mixed = attention(&q?, &k?, &v?, |query, key| window(query) == window(key))?;
            joined(&mixed)
        })();
        assert_close("windows", &found, &expected.unwrap(), 5e-6);
    }
}

#[test]
fn gated_blocks() {
    for (hidden, inner, rows) in [(1, 1, 1), (33, 7, 3), (65, 130, 11), (127, 49, 1)] {
        let [gate, up, down] = [1, 2, 3].map(|seed| numbers(seed, hidden * inner, 0.5));
        let block = GatedBlock {
            gate: matrix(&gate, inner, hidden),
            up: matrix(&up, inner, hidden),
            down: matrix(&down, hidden, inner),
        };
        let x = numbers(4, rows * hidden, 1.0);
        let found = block.apply(&x, rows, &mut ExpertScratch::default());
        let expected = (|| {
            let x = tensor(&x, &[rows, hidden]);
            let both = [gate, up].concat();
            let both = x.matmul(&tensor(&both, &[2 * inner, hidden]).t()?)?;
            ops::swiglu(&both)?.matmul(&tensor(&down, &[hidden, inner]).t()?)
        })();
        let what = format!("{hidden} by {inner}, {rows} rows");
        assert_close(&what, &found, &expected.unwrap(), 1e-5);
    }
}
