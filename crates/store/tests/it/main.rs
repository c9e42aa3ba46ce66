//! Tests of the whole store through its public face.
#![allow(missing_docs)]

mod behaviour;
mod fixture;
mod model;
mod power_cut;
mod random;
