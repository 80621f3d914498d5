//! Tensors of the interpreter: a type and its values in f64, in storage order.

use super::super::{Axis, Name, Type};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// What it is.
    pub ty: Type,
    /// Its values, the last axis varies fastest.
    pub data: Vec<f64>,
}

impl Tensor {
    /// A tensor from its values; `None` if their number is wrong.
    pub fn new(ty: Type, data: Vec<f64>) -> Option<Self> {
        (ty.len() == data.len()).then_some(Self { ty, data })
    }

    /// The same value everywhere.
    pub fn filled(ty: &Type, value: f64) -> Self {
        Self { ty: ty.clone(), data: vec![value; ty.len()] }
    }

    /// A value per coordinate, which come in storage order.
    pub fn of(ty: &Type, mut f: impl FnMut(&[usize]) -> f64) -> Self {
        let mut data = Vec::with_capacity(ty.len());
        each(&ty.axes, |at| data.push(f(at)));
        Self { ty: ty.clone(), data }
    }

    /// The value where each axis has the coordinate that `at` says.
    pub fn get(&self, at: impl Fn(&Name) -> usize) -> f64 {
        self.data[self.offset(at)]
    }

    /// The place of that value.
    pub fn offset(&self, at: impl Fn(&Name) -> usize) -> usize {
        self.ty.axes.iter().fold(0, |sum, a| sum * a.size + at(&a.name))
    }

    /// The same tensor in the storage order of `ty`; `None` if it has other axes or another dtype.
    pub fn arranged(&self, ty: &Type) -> Option<Self> {
        let fits = self.ty.dtype == ty.dtype
            && self.ty.axes.len() == ty.axes.len()
            && self.ty.axes.iter().all(|a| ty.axes.contains(a))
            && self.data.len() == ty.len();
        fits.then(|| self.arranged_as(ty))
    }

    // The same, where the axes are known to be equal.
    pub(super) fn arranged_as(&self, ty: &Type) -> Self {
        if self.ty.axes == ty.axes {
            return Self { ty: ty.clone(), data: self.data.clone() };
        }
        let view = self.view(&ty.axes);
        Self::of(ty, |at| view.get(at))
    }

    // Read by coordinates in `space`, of which the tensor may lack axes.
    pub(super) fn view(&self, space: &[Axis]) -> View<'_> {
        let stride = |axis: &Axis| match self.ty.find(&axis.name) {
            Some(i) => self.ty.axes[i + 1..].iter().map(|a| a.size).product(),
            None => 0,
        };
        View { data: &self.data, strides: space.iter().map(stride).collect() }
    }
}

/// Calls `f` with every coordinate of a space, the last axis fastest; once, with none, if there are no axes.
pub fn each(space: &[Axis], mut f: impl FnMut(&[usize])) {
    let mut at = vec![0; space.len()];
    loop {
        f(&at);
        let Some(i) = (0..space.len()).rev().find(|i| at[*i] + 1 < space[*i].size) else { return };
        at[i] += 1;
        at[i + 1..].fill(0);
    }
}

pub(super) struct View<'a> {
    data: &'a [f64],
    strides: Vec<usize>,
}

impl View<'_> {
    pub(super) fn offset(&self, at: &[usize]) -> usize {
        self.strides.iter().zip(at).map(|(s, i)| s * i).sum()
    }

    pub(super) fn get(&self, at: &[usize]) -> f64 {
        self.data[self.offset(at)]
    }
}
