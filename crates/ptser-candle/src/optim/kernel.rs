//! One step of one parameter, element by element, in PyTorch's order of operations. Knows slices and numbers, no
//! tensors.

use super::number::{Element, Wide};

/// Elements that are worth a thread.
const SHARE: usize = 1 << 18;

/// What a step of Adam or AdamW is made with, for a parameter at its step number.
#[derive(Debug, Clone, Copy)]
pub(super) struct AdamStep {
    pub(super) maximize: bool,
    /// Added to the gradient: the parameter, so many times. Zero for none.
    pub(super) weight_decay: f64,
    /// What the parameter is multiplied by first. One for nothing.
    pub(super) decay: f64,
    /// `1 - beta1`.
    pub(super) first: f64,
    pub(super) beta2: f64,
    pub(super) bias_correction2_sqrt: f64,
    pub(super) eps: f64,
    pub(super) step_size: f64,
}

/// The slices that a step of Adam changes; all of one length.
pub(super) struct AdamSlices<'s, E> {
    pub(super) param: &'s mut [E],
    pub(super) exp_avg: &'s mut [E],
    pub(super) exp_avg_sq: &'s mut [E],
    pub(super) max_exp_avg_sq: Option<&'s mut [E]>,
    pub(super) grad: &'s [E],
}

/// What a step of SGD is made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct SgdStep {
    pub(super) maximize: bool,
    pub(super) weight_decay: f64,
    pub(super) momentum: f64,
    pub(super) dampening: f64,
    pub(super) nesterov: bool,
    pub(super) lr: f64,
    /// The buffer holds nothing yet and begins as the gradient.
    pub(super) first: bool,
}

/// The slices that a step of SGD changes; all of one length.
pub(super) struct SgdSlices<'s, E> {
    pub(super) param: &'s mut [E],
    pub(super) momentum_buffer: Option<&'s mut [E]>,
    pub(super) grad: &'s [E],
}

/// Work that is compiled twice: for any processor, and for those that multiply and add at once.
trait Work {
    fn run(self);
}

fn run(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        #[expect(unsafe_code, reason = "calls a function that needs what the processor was just asked for")]
        // SAFETY: this processor has both.
        return unsafe { run_fused(work) };
    }
    work.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_fused(work: impl Work) {
    work.run();
}

/// Steps a parameter by Adam or AdamW.
pub(super) fn adam<E: Element>(step: &AdamStep, slices: AdamSlices<'_, E>) {
    let AdamSlices { param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad } = slices;
    let scalars = AdamScalars::of(step);
    let share = share(param.len());
    let mut max_chunks = max_exp_avg_sq.map(|max| max.chunks_mut(share));
    let pieces: Vec<AdamWork<'_, E>> = param
        .chunks_mut(share)
        .zip(exp_avg.chunks_mut(share))
        .zip(exp_avg_sq.chunks_mut(share))
        .zip(grad.chunks(share))
        .map(|(((param, exp_avg), exp_avg_sq), grad)| {
            let max_exp_avg_sq = max_chunks.as_mut().and_then(Iterator::next);
            AdamWork { scalars, slices: AdamSlices { param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad } }
        })
        .collect();
    each(pieces);
}

/// Steps a parameter by SGD.
pub(super) fn sgd<E: Element>(step: &SgdStep, slices: SgdSlices<'_, E>) {
    let SgdSlices { param, momentum_buffer, grad } = slices;
    let share = share(param.len());
    let mut buffers = momentum_buffer.map(|buffer| buffer.chunks_mut(share));
    let pieces: Vec<SgdWork<'_, E>> = param
        .chunks_mut(share)
        .zip(grad.chunks(share))
        .map(|(param, grad)| {
            let momentum_buffer = buffers.as_mut().and_then(Iterator::next);
            SgdWork { step: *step, slices: SgdSlices { param, momentum_buffer, grad } }
        })
        .collect();
    each(pieces);
}

/// How many of so many elements one thread steps.
fn share(elements: usize) -> usize {
    if elements < SHARE.saturating_mul(2) {
        return elements.max(1);
    }
    let threads = rayon::current_num_threads().clamp(1, elements / SHARE);
    elements.div_ceil(threads).max(1)
}

/// Runs each piece in a thread of its own, the first in this one.
///
/// Not in rayon's: storages are locked meanwhile, and a thread of rayon's that waits may be given other work, which
/// wants one of them.
fn each<W: Work + Send>(pieces: Vec<W>) {
    let mut pieces = pieces.into_iter();
    let Some(first) = pieces.next() else { return };
    std::thread::scope(|scope| {
        for piece in pieces {
            scope.spawn(|| run(piece));
        }
        run(first);
    });
}

/// Python's floats, as PyTorch hands them to its loops.
struct AdamScalars<E: Element> {
    maximize: bool,
    weight_decay: Option<E::Wide>,
    decay: E::Wide,
    first: E::Wide,
    beta2: E::Wide,
    second: E::Wide,
    bias_correction2_sqrt: E::Wide,
    eps: E::Wide,
    negative_step_size: E::Wide,
}

impl<E: Element> Clone for AdamScalars<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Element> Copy for AdamScalars<E> {}

impl<E: Element> AdamScalars<E> {
    fn of(step: &AdamStep) -> Self {
        let wide = E::Wide::rounded;
        // Factors of what is added are elements themselves, other factors are not.
        let element = |number| E::kept(wide(number));
        Self {
            maximize: step.maximize,
            weight_decay: (step.weight_decay != 0.0).then(|| element(step.weight_decay)),
            decay: wide(step.decay),
            first: wide(step.first),
            beta2: wide(step.beta2),
            second: wide(1.0 - step.beta2),
            bias_correction2_sqrt: wide(step.bias_correction2_sqrt),
            eps: element(step.eps),
            negative_step_size: wide(-step.step_size),
        }
    }
}

struct AdamWork<'s, E: Element> {
    scalars: AdamScalars<E>,
    slices: AdamSlices<'s, E>,
}

impl<E: Element> Work for AdamWork<'_, E> {
    #[inline(always)]
    fn run(self) {
        let Self { scalars, slices } = self;
        let AdamSlices { param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad } = slices;
        let all = param.iter_mut().zip(exp_avg).zip(exp_avg_sq).zip(grad);
        match max_exp_avg_sq {
            None => {
                for (((param, exp_avg), exp_avg_sq), grad) in all {
                    let second = scalars.moments(*param, *grad, exp_avg, exp_avg_sq);
                    *param = scalars.moved(*param, *exp_avg, second);
                }
            }
            Some(max) => {
                for ((((param, exp_avg), exp_avg_sq), grad), max) in all.zip(max) {
                    let second = scalars.moments(*param, *grad, exp_avg, exp_avg_sq);
                    if second > max.widen() || second.is_nan() {
                        *max = E::narrow(second);
                    }
                    *param = scalars.moved(*param, *exp_avg, max.widen());
                }
            }
        }
    }
}

impl<E: Element> AdamScalars<E> {
    /// Updates both moments; gives the second.
    #[inline(always)]
    fn moments(&self, param: E, grad: E, exp_avg: &mut E, exp_avg_sq: &mut E) -> E::Wide {
        let grad = gradient::<E>(self.maximize, self.weight_decay, param, grad);
        let one = E::Wide::rounded(1.0);
        // As PyTorch's `lerp`: from the nearer end.
        let (start, first) = (exp_avg.widen(), self.first);
        let near_start = first < E::Wide::rounded(0.5);
        let (from, factor) = if near_start { (start, first) } else { (grad, first.minus(one)) };
        *exp_avg = E::narrow(factor.times_plus(grad.minus(start), from));
        let decayed = E::kept(exp_avg_sq.widen().times(self.beta2));
        *exp_avg_sq = E::narrow(E::multiply_add(self.second.times(grad), grad, decayed));
        exp_avg_sq.widen()
    }

    /// The parameter, decayed and moved by the moments.
    #[inline(always)]
    fn moved(&self, param: E, exp_avg: E, second: E::Wide) -> E {
        let param = E::kept(param.widen().times(self.decay));
        let root = E::kept(E::kept(second.root()).over(self.bias_correction2_sqrt));
        let denominator = E::kept(root.plus(self.eps));
        E::narrow(param.plus(self.negative_step_size.times(exp_avg.widen()).over(denominator)))
    }
}

/// The gradient that is descended: of the other sign to maximize, with the parameter added.
#[inline(always)]
fn gradient<E: Element>(maximize: bool, weight_decay: Option<E::Wide>, param: E, grad: E) -> E::Wide {
    let grad = if maximize { grad.widen().negative() } else { grad.widen() };
    match weight_decay {
        Some(factor) => E::kept(E::multiply_add(param.widen(), factor, grad)),
        None => grad,
    }
}

struct SgdWork<'s, E> {
    step: SgdStep,
    slices: SgdSlices<'s, E>,
}

impl<E: Element> Work for SgdWork<'_, E> {
    #[inline(always)]
    fn run(self) {
        let Self { step, slices: SgdSlices { param, momentum_buffer, grad } } = self;
        let element = |number| E::kept(E::Wide::rounded(number));
        let weight_decay = (step.weight_decay != 0.0).then(|| element(step.weight_decay));
        let negative_lr = element(-step.lr);
        let moved = |param: E, grad: E::Wide| E::narrow(E::multiply_add(grad, negative_lr, param.widen()));
        let Some(buffer) = momentum_buffer else {
            for (param, grad) in param.iter_mut().zip(grad) {
                *param = moved(*param, gradient::<E>(step.maximize, weight_decay, *param, *grad));
            }
            return;
        };
        let (momentum, share) = (E::Wide::rounded(step.momentum), element(1.0 - step.dampening));
        let ahead = element(step.momentum);
        for ((param, buffer), grad) in param.iter_mut().zip(buffer).zip(grad) {
            let grad = gradient::<E>(step.maximize, weight_decay, *param, *grad);
            let next = if step.first {
                grad
            } else {
                E::kept(E::multiply_add(grad, share, E::kept(buffer.widen().times(momentum))))
            };
            *buffer = E::narrow(next);
            let grad = if step.nesterov { E::kept(E::multiply_add(next, ahead, grad)) } else { next };
            *param = moved(*param, grad);
        }
    }
}
